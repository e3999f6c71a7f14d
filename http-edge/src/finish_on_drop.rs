//! Work that is finished though nobody waits for it any more.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A future that goes on, in a task of its own, when it is dropped before its end.
pub struct FinishOnDrop<F>(Option<Pin<Box<F>>>)
where
    F: Future<Output: Send> + Send + 'static;

impl<F> FinishOnDrop<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    /// Wraps `work`, which does not begin before it is polled.
    pub fn new(work: F) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<F> Future for FinishOnDrop<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken, so that work which panics or has ended is not begun again.
        let Some(mut work) = self.0.take() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<F> Drop for FinishOnDrop<F>
where
    F: Future<Output: Send> + Send + 'static,
{
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn goes_on_when_it_is_dropped() {
        let (go, wait) = oneshot::channel();
        let (done, end) = oneshot::channel();
        let mut work = Box::pin(FinishOnDrop::new(async move {
            wait.await.unwrap();
            done.send("done").unwrap();
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(end.await, Ok("done"));
    }

    #[tokio::test]
    async fn answers_who_waits() {
        assert_eq!(FinishOnDrop::new(std::future::ready(7)).await, 7);
    }
}
