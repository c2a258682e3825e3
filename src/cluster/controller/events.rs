//! Events about requests: few are on their way at once, and what comes at the same time waits for its turn.

use std::{collections::VecDeque, future::Future, pin::Pin};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};

use crate::cluster::{Error, connection::ask};

/// How many are on their way at once.
const SENDING: usize = 32;
/// How many wait, as with Kubernetes' own recorder (client-go, `tools/record/event.go`); what is more is not sent.
const WAITING: usize = 1000;
/// What an Event can hold (`pkg/apis/core/validation/events.go`: 1024).
const NOTE: usize = 1000;

type Sending = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// Sends Events.
pub struct Publisher {
    recorder: Recorder,
    sending: FuturesUnordered<Sending>,
    waiting: VecDeque<(Event, ObjectReference)>,
}

impl Publisher {
    /// Nothing is on its way.
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder, sending: FuturesUnordered::new(), waiting: VecDeque::new() }
    }

    /// Sends one about a request, or has it wait; false where too many do.
    pub fn send(
        &mut self,
        about: ObjectReference,
        type_: EventType,
        reason: &str,
        mut note: String,
    ) -> bool {
        if self.waiting.len() >= WAITING {
            return false;
        }
        if let Some((end, _)) = note.char_indices().nth(NOTE) {
            note.truncate(end);
        }
        let (reason, note, action) = (reason.to_owned(), Some(note), "Review".into());
        self.waiting.push_back((Event { type_, reason, note, action, secondary: None }, about));
        self.start();
        true
    }

    /// What became of the next one that was on its way; nothing where none is.
    pub async fn next(&mut self) -> Option<Result<(), Error>> {
        let published = self.sending.next().await;
        self.start();
        published
    }

    fn start(&mut self) {
        while self.sending.len() < SENDING
            && let Some((event, about)) = self.waiting.pop_front()
        {
            let recorder = self.recorder.clone();
            self.sending.push(Box::pin(async move {
                ask("send an Event", recorder.publish(&event, &about)).await
            }));
        }
    }
}
