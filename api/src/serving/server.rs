//! The accept loop: a bound on connections, patience with a machine out of sockets, a stop that lets answers finish.

use super::connection::{self, Connections};
use crate::config::Limits;
use axum::Router;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many clients are told "too many connections" at once; those beyond are closed without a word.
const REFUSALS: usize = 64;
/// How long a refused client may take to read that.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause after a failed accept (out of file descriptors, mostly), doubled up to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Serves `router` on `listener` until `stop`, then lets the answers under way finish, for as long as
/// `limits.drain_timeout`. Returns how many connections had to be cut off.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Arc<Limits>,
    connections: Connections,
    stop: CancellationToken,
) -> usize {
    let slots = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let tasks = TaskTracker::new();
    let cut_off = CancellationToken::new();
    while let Some(stream) = stop.run_until_cancelled(accept(&listener)).await {
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let guard = connections.enter();
                let served =
                    connection::serve(stream, router.clone(), Arc::clone(&limits), stop.child_token());
                let cut_off = cut_off.clone();
                tasks.spawn(async move {
                    cut_off.run_until_cancelled(served).await;
                    drop((slot, guard));
                });
            }
            Err(_) => {
                connections.count_refusal();
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tasks.spawn(refuse(stream, permit));
                }
            }
        }
    }
    drop(listener);
    drain(&tasks, &cut_off, limits.drain_timeout).await
}

/// Waits for the connections to end, and cuts off those that do not in time.
async fn drain(tasks: &TaskTracker, cut_off: &CancellationToken, patience: Duration) -> usize {
    tasks.close();
    tracing::info!(connections = tasks.len(), "stopped accepting; waiting for the answers under way");
    if tokio::time::timeout(patience, tasks.wait()).await.is_ok() {
        return 0;
    }
    let left = tasks.len();
    tracing::warn!(connections = left, "cut off: they did not finish in time");
    cut_off.cancel();
    tasks.wait().await;
    left
}

/// The next connection, however long that takes.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut pause = BACK_OFF.0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client gave up before it was its turn: nothing is wrong here.
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Says 503 to a connection that is one too many. What the client sent is read before the close, for a close with
/// unread data resets the connection and the answer may be lost.
async fn refuse(mut stream: TcpStream, permit: OwnedSemaphorePermit) {
    const BODY: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections; try again in 1 s"}"#;
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         retry-after: 1\r\nconnection: close\r\n\r\n",
        BODY.len()
    );
    let told = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(BODY.as_bytes()).await?;
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it was heard makes no difference: the connection is closed either way.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
    drop(permit);
}
