//! HTTP connections, with bounds: their number, and how long one may take to say
//! what it wants.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// What the head of a request may take to come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client may be silent before it is probed, and take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&connections).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "an HTTP connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone().into_service());
        tokio::spawn(async move {
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE);
            let served = builder.serve_connection(TokioIo::new(stream), service).await;
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection ended");
            }
            drop(place);
        });
    }
}
