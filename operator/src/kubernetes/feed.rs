//! News that coalesce: whoever is slow finds each key once, however often it changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use crate::lock::lock;

#[derive(Debug)]
struct Inbox<K> {
    keys: Mutex<BTreeSet<K>>,
    bell: Notify,
}

/// Tells subscribers which keys changed.
#[derive(Debug)]
pub(crate) struct Feed<K> {
    inboxes: Arc<Mutex<Vec<Weak<Inbox<K>>>>>,
}

impl<K> Clone for Feed<K> {
    fn clone(&self) -> Self {
        Self { inboxes: self.inboxes.clone() }
    }
}

impl<K> Default for Feed<K> {
    fn default() -> Self {
        Self { inboxes: Arc::default() }
    }
}

impl<K: Ord + Clone> Feed<K> {
    /// Tells of `keys`.
    pub(crate) fn publish(&self, keys: &[K]) {
        if keys.is_empty() {
            return;
        }
        lock(&self.inboxes).retain(|inbox| {
            let Some(inbox) = inbox.upgrade() else { return false };
            lock(&inbox.keys).extend(keys.iter().cloned());
            inbox.bell.notify_one();
            true
        });
    }

    /// Hears of every key that is published from now on.
    pub(crate) fn subscribe(&self) -> Subscription<K> {
        let inbox = Arc::new(Inbox { keys: Mutex::new(BTreeSet::new()), bell: Notify::new() });
        lock(&self.inboxes).push(Arc::downgrade(&inbox));
        Subscription { inbox }
    }
}

/// What one subscriber has not heard yet.
#[derive(Debug)]
pub(crate) struct Subscription<K> {
    inbox: Arc<Inbox<K>>,
}

impl<K: Ord> Subscription<K> {
    /// Waits for news; takes all there are. Nothing is lost if the waiting is given up.
    pub(crate) async fn next(&mut self) -> BTreeSet<K> {
        loop {
            let keys = std::mem::take(&mut *lock(&self.inbox.keys));
            if !keys.is_empty() {
                return keys;
            }
            self.inbox.bell.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_slow_finds_each_key_once() {
        let feed = Feed::default();
        let mut slow = feed.subscribe();
        feed.publish(&["a", "b"]);
        let mut late = feed.subscribe();
        feed.publish(&["a"]);
        assert_eq!(slow.next().await, BTreeSet::from(["a", "b"]));
        assert_eq!(late.next().await, BTreeSet::from(["a"]));
        drop(late);
        feed.publish(&["c"]);
        assert_eq!(slow.next().await, BTreeSet::from(["c"]));
        assert_eq!(lock(&feed.inboxes).len(), 1);
    }
}
