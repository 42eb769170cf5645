//! A TCP proxy that ends connections, or lets nothing through any more.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::AbortHandle,
};

/// Runs until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: String,
    pub(crate) ended: Arc<AtomicU64>,
    frozen: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Proxy {
    /// Ends so many connections to `target` after some bytes, both ways together;
    /// later ones last.
    pub(crate) async fn start(target: &str, seed: u64, ended_max: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, ended) = (target.to_owned(), Arc::new(AtomicU64::new(0)));
        let frozen = Arc::new(AtomicBool::new(false));
        let (count, is_frozen) = (Arc::clone(&ended), Arc::clone(&frozen));
        let task = tokio::spawn(async move {
            let mut random = seed;
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = TcpStream::connect(&target).await else { continue };
                let is_ended = count.load(Ordering::Relaxed) < ended_max;
                let bytes = if is_ended { lifetime(&mut random) } else { i64::MAX };
                let (count, is_frozen) = (Arc::clone(&count), Arc::clone(&is_frozen));
                tokio::spawn(async move {
                    carry(near, far, bytes, &is_frozen).await;
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, ended, frozen, task: task.abort_handle() }
    }

    /// Lets nothing through from here on, and ends nothing.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: TcpStream, far: TcpStream, bytes: i64, is_frozen: &AtomicBool) {
    let left = AtomicI64::new(bytes);
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::select! {
        () = copy(near_read, far_write, &left, is_frozen) => {}
        () = copy(far_read, near_write, &left, is_frozen) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    left: &AtomicI64,
    is_frozen: &AtomicBool,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if is_frozen.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let read = i64::try_from(count).unwrap();
        let before = left.fetch_sub(read, Ordering::Relaxed);
        let passed = usize::try_from(before.clamp(0, read)).unwrap();
        if to.write_all(&buffer[..passed]).await.is_err() || passed < count {
            return;
        }
    }
}

/// Between nothing and 8 MiB, each order of magnitude as often as another: in a
/// handshake, in a head, in a part.
fn lifetime(random: &mut u64) -> i64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let scale = 11 + (*random >> 33) % 12;
    let mantissa = (*random >> 37) & 0x3ff;
    i64::try_from((1 << scale) + ((mantissa << scale) >> 10)).unwrap()
}
