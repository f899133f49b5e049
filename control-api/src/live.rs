//! The live view: server-sent events from the store, by position.
//!
//! One task asks the store where it ends, and only while somebody listens; each subscriber then reads what it wants from its
//! own position on. So a subscriber that is slow costs no memory: it is behind, and is cut when it takes nothing for too long.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::IntoResponse;
use axum::response::sse::{Event, Sse};
use futures::{StreamExt, stream};
use sallyport_event_store::{Filter, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::{ApiError, Code};

/// Subscribers at once; more are turned away.
const MAX_SUBSCRIBERS: usize = 64;
/// Pause between two looks at the store's end.
const POLL: Duration = Duration::from_millis(200);
/// Events that are read at once.
const CHUNK: u32 = 256;
/// Messages that a subscriber has not taken yet.
const WAITING: usize = 32;

/// How patient the live view is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest silence; then a comment tells that the stream lives.
    pub(crate) heartbeat: Duration,
    /// A subscriber that takes nothing for so long is cut.
    pub(crate) slow: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), slow: Duration::from_secs(30) }
    }
}

/// Who listens, and where the store ends.
#[derive(Debug)]
pub(crate) struct Live {
    patience: Patience,
    room: Arc<Semaphore>,
    /// The store's end as it was last seen.
    end: watch::Sender<String>,
    /// Ends every stream.
    shutdown: CancellationToken,
}

impl Live {
    pub(crate) fn new(patience: Patience, shutdown: CancellationToken) -> Self {
        let room = Arc::new(Semaphore::new(MAX_SUBSCRIBERS));
        Self { patience, room, end: watch::channel(String::new()).0, shutdown }
    }

    /// Looks where the store ends, while somebody listens, until `shutdown`.
    pub(crate) async fn watch(app: App) {
        let live = &app.live;
        let mut failing = false;
        while timeout(POLL, live.shutdown.cancelled()).await.is_err() {
            if live.end.receiver_count() == 0 {
                continue;
            }
            match app.events.end().await {
                Ok(end) => {
                    failing = false;
                    live.end.send_if_modified(|known| {
                        let is_new = *known != end;
                        *known = end;
                        is_new
                    });
                }
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "events cannot be followed");
                }
                Err(_) => {}
            }
        }
    }

    /// A stream of the events that match, from `position` on; without one from now on.
    pub(crate) async fn subscribe(
        &self,
        app: App,
        filter: Filter,
        position: Option<String>,
    ) -> Result<impl IntoResponse + use<>, ApiError> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| {
            ApiError::new(Code::Unavailable, "too many follow events already; try again in a moment")
        })?;
        // Seen before the first read, so that nothing falls between the two.
        let end = self.end.subscribe();
        let position = match position {
            // Read at once, so that a position which is none is refused.
            Some(position) => match app.events.after(filter.clone(), position.clone(), 0).await {
                Err(StoreError::Cursor) => {
                    let message = "`last-event-id` is none of ours; leave it out";
                    return Err(ApiError::new(Code::InvalidQuery, message));
                }
                result => result.map(|_| position)?,
            },
            None => app.events.end().await?,
        };
        let (messages, waiting) = mpsc::channel(WAITING);
        let was_cut = Arc::new(AtomicBool::new(false));
        let subscriber = Subscriber {
            filter,
            position,
            end,
            messages,
            patience: self.patience,
            was_cut: Arc::clone(&was_cut),
        };
        tokio::spawn(subscriber.run(app, room, self.shutdown.clone()));
        let events =
            stream::unfold(waiting, |mut waiting| async move { Some((waiting.recv().await?, waiting)) });
        // Told when the subscriber has come so far, if it ever does.
        let last = stream::once(async move {
            was_cut.load(Ordering::Relaxed).then(|| Event::default().comment("cut: this client was too slow"))
        });
        let stream = events.chain(last.filter_map(std::future::ready)).map(Ok::<_, Infallible>);
        Ok(([("cache-control", "no-store"), ("x-accel-buffering", "no")], Sse::new(stream)))
    }
}

struct Subscriber {
    filter: Filter,
    position: String,
    end: watch::Receiver<String>,
    messages: mpsc::Sender<Event>,
    patience: Patience,
    was_cut: Arc<AtomicBool>,
}

/// The subscriber is gone, or was cut.
struct Over;

impl Subscriber {
    async fn run(mut self, app: App, room: OwnedSemaphorePermit, shutdown: CancellationToken) {
        app.metrics.subscribers.inc();
        tokio::select! {
            Over = self.follow(&app) => {}
            () = shutdown.cancelled() => {}
        }
        if self.was_cut.load(Ordering::Relaxed) {
            app.metrics.subscribers_cut.inc();
            tracing::info!(position = self.position, "subscriber cut: too slow");
        }
        app.metrics.subscribers.dec();
        drop(room);
    }

    async fn follow(&mut self, app: &App) -> Over {
        // Tells at once that the stream lives, and where it stands.
        if self.send_comment("live").await.is_err() {
            return Over;
        }
        loop {
            self.end.mark_unchanged();
            if self.read(app).await.is_err() {
                return Over;
            }
            tokio::select! {
                changed = timeout(self.patience.heartbeat, self.end.changed()) => {
                    if changed.is_err() && self.send_comment("heartbeat").await.is_err() {
                        return Over;
                    }
                }
                () = self.messages.closed() => return Over,
            }
        }
    }

    /// Sends everything up to the store's end.
    async fn read(&mut self, app: &App) -> Result<(), Over> {
        loop {
            // Whoever watches the end tells of an error; the next look tries again.
            let Ok(tail) = app.events.after(self.filter.clone(), self.position.clone(), CHUNK).await else {
                return Ok(());
            };
            for (position, event) in tail.events {
                let message = Event::default().id(position.as_str()).data(event.to_string());
                self.send(message).await?;
            }
            if self.position == tail.position {
                return Ok(());
            }
            self.position = tail.position;
        }
    }

    /// A comment with the position, which moves on also when no event matches.
    async fn send_comment(&mut self, text: &str) -> Result<(), Over> {
        self.send(Event::default().id(self.position.as_str()).comment(text)).await
    }

    async fn send(&mut self, message: Event) -> Result<(), Over> {
        match timeout(self.patience.slow, self.messages.send(message)).await {
            Ok(sent) => sent.map_err(|_| Over),
            Err(_) => {
                self.was_cut.store(true, Ordering::Relaxed);
                Err(Over)
            }
        }
    }
}
