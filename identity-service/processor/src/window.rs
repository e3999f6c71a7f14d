//! The window: events between the cursor and what was read, with whose turn it is. It does nothing by itself.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use event_log::Position;
use tokio::time::Instant;

use crate::{lane::Lane, prepare::Prepared};

/// An event in the window.
pub struct Item {
    /// The event, ready to be sent.
    pub prepared: Prepared,
    /// Failures so far.
    pub attempts: u8,
    /// The time of the first of them.
    pub failed_at: Option<Instant>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Sending,
    Finished,
}

/// Number of an event in the window; it grows and is never used twice.
pub type Ticket = u64;

/// Events in order, by lanes.
#[derive(Default)]
pub struct Window {
    items: VecDeque<Item>,
    first: Ticket,
    lanes: HashMap<Lane, VecDeque<Ticket>>,
    /// Lanes whose first event may be sent.
    ready: VecDeque<Lane>,
    /// Lanes whose first event waits for its time.
    delayed: BTreeSet<(Instant, Lane)>,
    bytes: usize,
    sending: usize,
}

/// How far the window has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last event before which all are finished; none where it is the same as before.
    pub position: Option<Position>,
    /// Number of events that came to be behind it.
    pub events: i64,
    /// Their bytes in the log.
    pub bytes: i64,
}

impl Window {
    /// Adds the next event, which waits for its turn.
    pub fn push(&mut self, prepared: Prepared) {
        let (lane, ticket) = (prepared.lane, self.first + self.length());
        self.bytes += prepared.bytes;
        self.items.push_back(Item { prepared, attempts: 0, failed_at: None, state: State::Waiting });
        let queue = self.lanes.entry(lane).or_default();
        queue.push_back(ticket);
        if queue.len() == 1 {
            self.ready.push_back(lane);
        }
    }

    /// Number of events that are not finished, or are behind one that is not.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True where there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes of the events, as the log has them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the next event whose turn it is; it is under way then.
    pub fn next(&mut self, now: Instant) -> Option<Ticket> {
        while let Some(&(at, lane)) = self.delayed.first() {
            if at > now {
                break;
            }
            self.delayed.remove(&(at, lane));
            self.ready.push_back(lane);
        }
        let lane = self.ready.pop_front()?;
        let ticket = *self.lanes.get(&lane)?.front()?;
        self.item_mut(ticket)?.state = State::Sending;
        self.sending += 1;
        Some(ticket)
    }

    /// True where an event before the last that is finished is not: what was answered would be repeated.
    pub fn has_below_finished(&self) -> bool {
        self.last_finished().is_some_and(|last| last > self.first)
    }

    /// Takes, of the events before the last that is finished, the next whose turn it is.
    pub fn next_below_finished(&mut self, now: Instant) -> Option<Ticket> {
        let last = self.last_finished()?;
        for _ in 0..self.ready.len() + self.delayed.len() {
            let ticket = self.next(now)?;
            if ticket < last {
                return Some(ticket);
            }
            self.put_back(ticket, Duration::MAX, now);
        }
        None
    }

    fn last_finished(&self) -> Option<Ticket> {
        let last = self.items.iter().rposition(|item| item.state == State::Finished)?;
        Some(self.first + u64::try_from(last).unwrap_or(u64::MAX))
    }

    /// The time at which the next event that waits may be sent; none where none waits.
    pub fn next_at(&self) -> Option<Instant> {
        self.delayed.first().map(|&(at, _)| at)
    }

    /// The events that wait, with their tickets.
    pub fn waiting(&self) -> impl Iterator<Item = (Ticket, &Item)> {
        (self.first..).zip(&self.items).filter(|(_, item)| item.state == State::Waiting)
    }

    /// Has the core asked again about every event that waits.
    pub fn expire(&mut self) {
        for item in self.items.iter_mut().filter(|item| item.state == State::Waiting) {
            item.prepared.checked_at = None;
        }
    }

    /// An event of the window.
    pub fn item(&self, ticket: Ticket) -> Option<&Item> {
        self.items.get(usize::try_from(ticket.checked_sub(self.first)?).ok()?)
    }

    /// An event of the window, to be changed.
    pub fn item_mut(&mut self, ticket: Ticket) -> Option<&mut Item> {
        self.items.get_mut(usize::try_from(ticket.checked_sub(self.first)?).ok()?)
    }

    /// Has an event that was under way wait for so long; it keeps its place in its lane.
    pub fn put_back(&mut self, ticket: Ticket, delay: Duration, now: Instant) {
        let Some(item) = self.item_mut(ticket) else { return };
        item.state = State::Waiting;
        let lane = item.prepared.lane;
        self.sending = self.sending.saturating_sub(1);
        if delay.is_zero() {
            self.ready.push_back(lane);
        } else {
            let at = now.checked_add(delay).unwrap_or(now + Duration::from_hours(24));
            self.delayed.insert((at, lane));
        }
    }

    /// Finishes an event that was under way: the next of its lane has its turn.
    pub fn finish(&mut self, ticket: Ticket) {
        let Some(item) = self.item_mut(ticket) else { return };
        item.state = State::Finished;
        let lane = item.prepared.lane;
        self.sending = self.sending.saturating_sub(1);
        if let Some(queue) = self.lanes.get_mut(&lane) {
            queue.retain(|own| *own != ticket);
            if queue.is_empty() {
                self.lanes.remove(&lane);
            } else {
                self.ready.push_back(lane);
            }
        }
    }

    /// Lets events whose first try failed begin anew, as nobody was at fault but the destination.
    pub fn forget_attempts(&mut self) {
        for item in self.items.iter_mut().filter(|item| item.state != State::Finished) {
            (item.attempts, item.failed_at) = (0, None);
        }
    }

    /// Removes the unbroken run of finished events from its front.
    pub fn advance(&mut self) -> Progress {
        let mut progress = Progress::default();
        while self.items.front().is_some_and(|item| item.state == State::Finished) {
            let Some(item) = self.items.pop_front() else { break };
            self.first += 1;
            self.bytes -= item.prepared.bytes;
            progress.position = Some(item.prepared.position);
            progress.events += 1;
            progress.bytes += i64::try_from(item.prepared.bytes).unwrap_or_default();
        }
        progress
    }

    fn length(&self) -> u64 {
        u64::try_from(self.items.len()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: i64, lane: u8) -> Prepared {
        Prepared::for_tests(Position::from_number(number), [lane; 16], 10)
    }

    #[test]
    fn a_lane_has_one_under_way_and_stays_in_order() {
        let (mut window, now) = (Window::default(), Instant::now());
        for (number, lane) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
            window.push(event(number, lane));
        }
        let first = [window.next(now), window.next(now), window.next(now)];
        assert_eq!(first, [Some(0), Some(2), None]);
        window.finish(2);
        assert_eq!(window.advance(), Progress::default(), "the first is not finished");
        window.finish(0);
        let moved = Progress { position: Some(Position::from_number(1)), events: 1, bytes: 10 };
        assert_eq!(window.advance(), moved);
        assert_eq!((window.next(now), window.next(now)), (Some(1), None));
        window.finish(1);
        assert_eq!(window.advance().position, Some(Position::from_number(3)));
        assert_eq!(window.next(now), Some(3));
        window.finish(3);
        assert_eq!(window.advance().events, 1);
        assert!(window.is_empty() && window.bytes() == 0 && window.sending == 0);
    }

    #[test]
    fn who_waits_keeps_the_place_and_holds_up_the_lane_alone() {
        let (mut window, now) = (Window::default(), Instant::now());
        for (number, lane) in [(1, 1), (2, 1), (3, 2)] {
            window.push(event(number, lane));
        }
        assert_eq!(window.next(now), Some(0));
        window.put_back(0, Duration::from_secs(4), now);
        assert_eq!((window.next(now), window.next(now)), (Some(2), None));
        assert_eq!(window.next_at(), Some(now + Duration::from_secs(4)));
        window.finish(2);
        let later = now + Duration::from_secs(4);
        assert_eq!(window.next(later), Some(0));
        window.finish(0);
        assert_eq!(window.next(later), Some(1));
    }

    #[test]
    fn at_the_end_only_what_lies_below_a_finished_one_is_sent() {
        let (mut window, now) = (Window::default(), Instant::now());
        for (number, lane) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            window.push(event(number, lane));
        }
        assert_eq!(window.next_below_finished(now), None, "nothing is finished");
        for _ in 0..4 {
            window.next(now);
        }
        window.finish(2);
        window.put_back(0, Duration::ZERO, now);
        window.put_back(3, Duration::ZERO, now);
        assert_eq!(window.next_below_finished(now), Some(0));
        assert_eq!(window.next_below_finished(now), None);
    }
}
