//! Single flight: of several callers who want the same at once one does the work, and all get what came of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// Digest that says what is wanted.
pub type Wanted = [u8; 32];

type Flights<T> = Arc<Mutex<HashMap<Wanted, watch::Receiver<Option<T>>>>>;

/// The work that is being done; clones share it.
#[derive(Clone)]
pub struct SingleFlight<T>(Flights<T>);

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// Takes the flight off the board, also where its work panics.
struct Landing<T> {
    flights: Flights<T>,
    wanted: Wanted,
}

impl<T> Drop for Landing<T> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.wanted);
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Does `work`, or waits for the one who is doing it, which the second value says. The work goes on where its caller
    /// has gone. None where it panicked.
    pub async fn join<F>(&self, wanted: Wanted, work: impl FnOnce() -> F) -> (Option<T>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut is_shared = true;
        let mut landed = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let flight = flights.entry(wanted).or_insert_with(|| {
                is_shared = false;
                let (sender, receiver) = watch::channel(None);
                let landing = Landing { flights: self.0.clone(), wanted };
                let work = work();
                tokio::spawn(async move {
                    let output = work.await;
                    // Whoever comes from now on starts anew.
                    drop(landing);
                    let _ = sender.send(Some(output));
                });
                receiver
            });
            flight.clone()
        };
        let output = landed.wait_for(Option::is_some).await.ok().and_then(|output| output.clone());
        (output, is_shared)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn callers_at_once_share_and_later_ones_do_not() {
        let flights = SingleFlight::default();
        let (times, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (times, go) = (times.clone(), go.clone());
            async move {
                go.notified().await;
                times.fetch_add(1, Ordering::SeqCst) + 1
            }
        };
        let joined = futures_util::future::join_all((0..100).map(|_| flights.join([0; 32], work)));
        let joined = async { tokio::join!(joined, async { go.notify_one() }).0 }.await;
        assert_eq!(joined.iter().filter(|(_, is_shared)| !is_shared).count(), 1);
        assert!(joined.iter().all(|(output, _)| *output == Some(1)));
        go.notify_one();
        assert_eq!(flights.join([0; 32], work).await, (Some(2), false));
        assert!(flights.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_panic_leaves_nothing_behind() {
        let flights: SingleFlight<()> = SingleFlight::default();
        let work = || async { panic!("a defect") };
        assert_eq!(flights.join([1; 32], work).await, (None, false));
        assert_eq!(flights.join([1; 32], || async {}).await, (Some(()), false));
    }
}
