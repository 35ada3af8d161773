//! A connection whose client may not take for ever: to begin a request, to send the headers of one, or to take bytes.
//!
//! It has the idle timeout while the connection is idle, and the header timeout while it receives headers (see
//! [`super::connection_phase`]). While a response is made there is no limit here.
//!
//! hyper's own timer cannot tell an idle connection from a slow request. This one is a single timer per connection
//! that is set once in a while and not for every request: when it goes off too early, it is set again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::connection_phase::{ConnectionPhase, Phase};
use wheelport_runtime::sabotaged;

/// What a client may take its time for.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// While no byte of a request has come.
    pub idle: Duration,
    /// From the first byte of a request to the end of its headers.
    pub header: Duration,
    /// While the client takes no byte of a response.
    pub write: Duration,
}

/// A stream that fails when its client takes too long.
#[derive(Debug)]
pub(super) struct TimeoutStream<S> {
    stream: S,
    timeouts: Timeouts,
    phase: ConnectionPhase,
    timer: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> TimeoutStream<S> {
    pub(super) fn new(stream: S, timeouts: Timeouts, phase: ConnectionPhase) -> Self {
        Self { stream, timeouts, phase, timer: None, stalled: None }
    }

    /// Called when there is nothing to read: fails if the client has taken too long.
    fn wait(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Timeouts { idle, header, .. } = self.timeouts;
        let limit = match self.phase.get() {
            Phase::Idle if !self.phase.is_stalled() && !sabotaged("idle-timeout") => {
                Some((self.phase.since() + idle, "the connection was idle for too long"))
            }
            Phase::Receiving if !sabotaged("header-timeout") => {
                self.phase.await_headers();
                Some((self.phase.since() + header, "the headers of a request took too long"))
            }
            // Nothing is overdue, but the end of a response is noticed by the timer alone.
            _ => None,
        };
        let deadline = || limit.map_or_else(|| Instant::now() + idle, |(deadline, _)| deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline())));
        if limit.is_some_and(|(deadline, _)| timer.deadline() > deadline) {
            timer.as_mut().reset(deadline());
        }
        while timer.as_mut().poll(context).is_ready() {
            match limit {
                Some((deadline, reason)) if deadline <= Instant::now() => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
                }
                _ => timer.as_mut().reset(deadline()),
            }
        }
        Ok(())
    }

    /// Fails if the client has taken no byte for too long.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        self.phase.stall();
        let limit = if sabotaged("write-timeout") { Duration::MAX } else { self.timeouts.write };
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled
            .as_mut()
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimeoutStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        match polled {
            Poll::Ready(_) => self.phase.received(buffer.filled().len() - before),
            Poll::Pending => self.wait(context)?,
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimeoutStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written may still be in a buffer of TLS, so only a flush tells that the client has taken it.
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.phase.sent();
        }
        self.watch(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::super::connection_phase::HeaderMemory;
    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { idle: Duration::from_mins(1), header: Duration::from_secs(10), write: Duration::from_secs(30) };

    fn connection() -> (DuplexStream, TimeoutStream<DuplexStream>, ConnectionPhase) {
        let (client, server) = duplex(64);
        let phase = ConnectionPhase::new(HeaderMemory::new(1000));
        (client, TimeoutStream::new(server, TIMEOUTS, phase.clone()), phase)
    }

    async fn failure(stream: &mut TimeoutStream<DuplexStream>) -> (Duration, String) {
        let (began, mut buffer) = (Instant::now(), [0; 64]);
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return (began.elapsed(), "closed".to_owned()),
                Ok(_) => {}
                Err(error) => return (began.elapsed(), error.to_string()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_has_the_idle_timeout() {
        let (_client, mut stream, _) = connection();
        let (after, reason) = failure(&mut stream).await;
        assert!((60..62).contains(&after.as_secs()) && reason.contains("idle"), "{after:?} {reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_have_their_timeout_from_the_first_byte() {
        let (mut client, mut stream, _) = connection();
        let trickle = async {
            tokio::time::sleep(Duration::from_secs(50)).await;
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let failing = async {
            let failed = failure(&mut stream).await;
            drop(stream);
            failed
        };
        let ((after, reason), ()) = tokio::join!(failing, trickle);
        assert!((60..62).contains(&after.as_secs()) && reason.contains("headers"), "{after:?} {reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_takes_as_long_as_it_takes_and_idleness_counts_from_its_end() {
        let (mut client, mut stream, phase) = connection();
        let mut buffer = [0; 64];
        for _ in 0..3 {
            client.write_all(b"GET").await.expect("the connection is open");
            assert_eq!(stream.read(&mut buffer).await.expect("in time"), 3);
            let responding = phase.respond();
            let silence = tokio::time::timeout(Duration::from_mins(10), stream.read(&mut buffer)).await;
            assert!(silence.is_err(), "no limit while a response is made");
            drop(responding);
            let silence = tokio::time::timeout(Duration::from_secs(59), stream.read(&mut buffer)).await;
            assert!(silence.is_err(), "idle, and not for too long");
        }
        let (after, reason) = failure(&mut stream).await;
        assert!(after.as_secs() <= 2 && reason.contains("idle"), "{after:?} {reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_bytes_has_the_write_timeout() {
        let (_client, mut stream, _) = connection();
        let began = Instant::now();
        let failed = stream.write_all(&[0; 128]).await.map_err(|error| error.to_string());
        assert_eq!(failed, Err("the client takes no bytes".to_owned()));
        assert!((30..32).contains(&began.elapsed().as_secs()));
    }
}
