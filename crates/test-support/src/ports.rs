//! Ports for programs that are told where to listen.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are taken from: below those that outgoing connections get, one of which would take a port between its being found
/// free and its use; no program that is known is there.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A free address of this machine; none is given twice within a process.
///
/// # Panics
/// None is free.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes begin apart from each other, as far as their numbers are.
    let start = u16::try_from(u64::from(std::process::id()) * 127 % u64::from(COUNT)).unwrap_or_default();
    for _ in 0..COUNT {
        let offset = (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let port = FIRST.saturating_add(u16::try_from(offset).unwrap_or_default());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} on is free");
}

#[cfg(test)]
mod tests {
    use super::free_address;

    #[test]
    fn no_address_is_given_twice_nor_to_a_connection() {
        let [one, other] = [free_address(), free_address()];
        assert!(one != other && one.port() < 32_768 && other.port() < 32_768, "{one} {other}");
    }
}
