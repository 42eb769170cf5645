//! What one side of a hop must remember so that every message arrives once, in
//! order, however often the connection under it breaks.
//!
//! ```text
//!  numbers    0 1 2 | 3 4 5 | 6 7 | 8 ...
//!             taken | sent  | due | not accepted yet
//! ```
//!
//! The sender keeps a message until the other side says that it has taken it, and
//! sends what was not taken again on the next connection. The receiver drops what
//! it has taken before. All this lasts as long as both ends live: the window of
//! another incarnation is another window.
//!
//! A sender may also give up what was not taken. How much of it was, it learns
//! when the next connection begins; until then nothing new gets a number.
//!
//! Invariants: at most [`MESSAGES_MAX`] messages are kept, and no more than
//! [`PAYLOAD_BYTES_MAX`] of payload besides one message. While some are given up,
//! none are kept.

use std::collections::VecDeque;

use proto::data::Message;

/// Messages that may be sent and not taken.
pub const MESSAGES_MAX: usize = 8;

/// Bytes of payload that may be sent and not taken; one message may be larger.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// One side's memory of a hop.
#[derive(Debug, Default)]
pub struct Window {
    /// Messages that the other side has taken of ours.
    taken: u64,
    /// Those that it has not, in order.
    kept: VecDeque<Message>,
    kept_bytes: usize,
    /// How many were given up, of which it may have taken some.
    given_up: u64,
    /// How many of the kept ones were sent on this connection.
    sent: usize,
    /// Messages that we have taken of the other side's.
    received: u64,
}

/// The other side says what cannot be. End the hop: its peer is not sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// It has taken what was never sent, or takes back what it has said.
    #[error("the peer says it has taken {said} messages; it had taken {taken} of {sent} sent")]
    Taken {
        /// What it says.
        said: u64,
        /// What it had said before.
        taken: u64,
        /// What was sent.
        sent: u64,
    },
    /// A message is missing before this one.
    #[error("the peer sent message {found} where {expected} is next")]
    Gap {
        /// The number that came.
        found: u64,
        /// The number that is next.
        expected: u64,
    },
}

impl Window {
    /// Whether another message may be accepted.
    pub fn has_room(&self) -> bool {
        self.given_up == 0 && self.kept.len() < MESSAGES_MAX && self.kept_bytes < PAYLOAD_BYTES_MAX
    }

    /// Whether the other side has taken everything.
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty()
    }

    /// Accepts a message to be sent.
    ///
    /// # Panics
    ///
    /// If there is no room: ask first.
    pub fn push(&mut self, message: Message) {
        assert!(self.has_room(), "a message for a full window");
        self.kept_bytes += message.payload.len();
        self.kept.push_back(message);
    }

    /// The next message to be put on this connection, with its number.
    pub fn poll_transmit(&mut self) -> Option<(u64, Message)> {
        let message = self.kept.get(self.sent)?.clone();
        let number = self.taken + self.sent as u64;
        self.sent += 1;
        Some((number, message))
    }

    /// The other side has taken so many messages. Gives how many more than before, and
    /// their bytes of payload.
    ///
    /// # Errors
    ///
    /// [`Unsound`] if that many were not sent, or more were taken before.
    pub fn handle_taken(&mut self, said: u64) -> Result<(u32, u64), Unsound> {
        self.check(said, self.taken + self.sent as u64)?;
        let before = (self.kept.len(), self.kept_bytes);
        self.forget(said);
        let messages = u32::try_from(before.0 - self.kept.len()).unwrap_or(u32::MAX);
        Ok((messages, (before.1 - self.kept_bytes) as u64))
    }

    /// A connection begins, and the other side has taken so many messages: what it
    /// has not is sent again.
    ///
    /// # Errors
    ///
    /// As [`Window::handle_taken`].
    pub fn resume(&mut self, said: u64) -> Result<(), Unsound> {
        // Whatever is kept, or was given up, may have been sent on the last connection.
        self.check(said, self.taken + self.given_up + self.kept.len() as u64)?;
        if 0 < self.given_up {
            (self.taken, self.given_up) = (said, 0);
        }
        self.sent = self.kept.len();
        self.forget(said);
        self.sent = 0;
        Ok(())
    }

    /// Drops what the other side has not taken. There is no room before the next
    /// connection begins.
    pub fn give_up(&mut self) {
        self.given_up += self.kept.len() as u64;
        self.kept.clear();
        (self.kept_bytes, self.sent) = (0, 0);
    }

    /// A message came. Gives whether it is a new one; one that came before is to
    /// be dropped.
    ///
    /// # Errors
    ///
    /// [`Unsound::Gap`] if one is missing before it.
    pub fn handle_message(&mut self, number: u64) -> Result<bool, Unsound> {
        let expected = self.received;
        if expected < number {
            return Err(Unsound::Gap { found: number, expected });
        }
        self.received += u64::from(number == expected);
        Ok(number == expected)
    }

    /// Messages that we have taken.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages that were taken, both ways together.
    pub fn progress(&self) -> u64 {
        self.taken + self.received
    }

    fn check(&self, said: u64, sent: u64) -> Result<(), Unsound> {
        let taken = self.taken;
        if (taken..=sent).contains(&said) {
            Ok(())
        } else {
            Err(Unsound::Taken { said, taken, sent })
        }
    }

    fn forget(&mut self, said: u64) {
        while self.taken < said {
            let Some(message) = self.kept.pop_front() else { return };
            self.kept_bytes -= message.payload.len();
            self.taken += 1;
            self.sent -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use proto::data::Kind;
    use types::{Epoch, Fence, JobId};

    use super::*;

    proptest! {
        /// Whatever is lost when a connection breaks, the receiver sees all, once.
        #[test]
        fn messages_arrive_once_and_in_order_however_often_the_connection_breaks(
            events in proptest::collection::vec(0u8..5, 1..400)
        ) {
            let (mut sender, mut receiver) = (Window::default(), Window::default());
            let (mut wire, mut taken_wire) = (VecDeque::new(), VecDeque::new());
            let (mut next, mut arrived) = (0u32, Vec::new());
            let quiet = [1, 2, 3].repeat(40);
            // The connection breaks once more at the end, then all is quiet.
            for event in events.into_iter().chain([4]).chain(quiet) {
                match event {
                    0 if sender.has_room() && next < 99 => {
                        sender.push(message(next, 0));
                        next += 1;
                    }
                    1 => wire.extend(sender.poll_transmit()),
                    2 => if let Some((number, message)) = wire.pop_front()
                        && receiver.handle_message(number).unwrap()
                    {
                        arrived.push(message.kind);
                        taken_wire.push_back(receiver.received());
                    },
                    3 => if let Some(taken) = taken_wire.pop_front() {
                        sender.handle_taken(taken).unwrap();
                    },
                    4 => {
                        wire.clear();
                        taken_wire.clear();
                        sender.resume(receiver.received()).unwrap();
                    }
                    _ => {}
                }
            }

            let sent: Vec<_> = (0..next).map(|chunk| Kind::Durable { chunk }).collect();
            prop_assert_eq!(arrived, sent);
        }
    }

    #[test]
    fn room_ends_with_messages_or_with_bytes() {
        let mut window = Window::default();
        (0..8).for_each(|chunk| window.push(message(chunk, 0)));
        assert!(!window.has_room());

        let mut window = Window::default();
        window.push(message(0, PAYLOAD_BYTES_MAX));
        assert!(!window.has_room());
        window.poll_transmit();
        window.handle_taken(1).unwrap();
        assert!(window.has_room());
    }

    #[test]
    fn what_is_given_up_never_arrives_and_what_comes_after_it_does() {
        for taken in 0..=1 {
            let mut window = Window::default();
            (0..2).for_each(|chunk| window.push(message(chunk, PAYLOAD_BYTES_MAX / 2)));
            window.poll_transmit();
            window.give_up();
            assert!(!window.has_room(), "its number is not known yet");
            assert_eq!(window.poll_transmit(), None);

            window.resume(taken).unwrap();
            window.push(message(7, 0));

            assert_eq!(window.poll_transmit(), Some((taken, message(7, 0))));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut window = Window::default();
        window.push(message(0, 0));
        assert_eq!(window.handle_taken(1), Err(Unsound::Taken { said: 1, taken: 0, sent: 0 }));
        window.poll_transmit();
        window.handle_taken(1).unwrap();
        assert_eq!(window.handle_taken(0), Err(Unsound::Taken { said: 0, taken: 1, sent: 1 }));
        assert_eq!(window.handle_message(1), Err(Unsound::Gap { found: 1, expected: 0 }));
        assert_eq!(window.handle_message(0), Ok(true));
        assert_eq!(window.handle_message(0), Ok(false), "it came before");
        assert_eq!(window.received(), 1);
    }

    fn message(chunk: u32, bytes: usize) -> Message {
        let fence = Fence { job: JobId(1), epoch: Epoch(1) };
        Message { fence, kind: Kind::Durable { chunk }, payload: Bytes::from(vec![0; bytes]) }
    }
}
