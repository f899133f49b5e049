//! What the chain needs of an event's bytes, read without building the message: a verifier does this for every event.

/// Fields of `AuditEvent` that tie it into its chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Links<'e> {
    /// Its place.
    pub seq: u64,
    /// Its predecessor's hash.
    pub prev_hash: &'e [u8],
    /// Time of the verdict, nanoseconds since 1970.
    pub nanos: u64,
    /// Events that were dropped before it.
    pub dropped_before: u64,
}

/// Reads them; none: the bytes are no protobuf message.
pub fn links(bytes: &[u8]) -> Option<Links<'_>> {
    let mut links = Links::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let (field, kind) = (key >> 3, key & 7);
        match kind {
            0 => {
                let value = varint(&mut rest)?;
                match field {
                    1 => links.seq = value,
                    4 => links.nanos = value,
                    7 => links.dropped_before = value,
                    _ => {}
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                if field == 2 {
                    links.prev_hash = value;
                }
            }
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(links)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (index, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = rest.get(index + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sallyport_audit_proto::v1::AuditEvent;

    use super::*;

    #[test]
    fn links_are_those_of_the_message() {
        let event = AuditEvent {
            seq: u64::MAX,
            prev_hash: vec![7; 32],
            time_unix_nanos: 1_700_000_000_000_000_000,
            dropped_before: 3,
            server: "payments".into(),
            bytes_out: 300,
            cut: true,
            ..AuditEvent::default()
        };
        let bytes = event.encode_to_vec();
        let expected =
            Links { seq: u64::MAX, prev_hash: &[7; 32], nanos: 1_700_000_000_000_000_000, dropped_before: 3 };
        assert_eq!(links(&bytes), Some(expected));
        assert_eq!(links(&bytes[..bytes.len() - 1]), None, "cut short");
        assert_eq!(links(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "longer than it is");
    }
}
