//! What a coordinator costs: 1,000 workers that beat, 10,000 videos that wait.
//!
//! ```text
//! cargo build --release -p filmloom
//! cargo run --release -p filmloom --example bench_coordinator -- [workers] [videos]
//! ```
//!
//! Starts `filmloom serve --no-worker` at a quarter, half and all of the size, each time
//! with a new data folder. Workers are simulated in this process as far as computing
//! goes; everything else of them is real: each joins with the token, opens a session of
//! its own over mutual TLS, is measured and beats twice a second. Videos are asked for
//! by four HTTP clients at once. Since nobody computes, all but a few of them wait.
//!
//! Prints, per size
//!
//! 1. joining, in ms per worker: token, certificate, session, measurement;
//! 2. one `POST /v1/videos`, written down and answered, in ms: median and 99th percentile;
//! 3. the same for `GET` of the video that waits last, of a page of 100 videos, and of
//!    `/v1/cluster`, one after the other, while all workers beat;
//! 4. the coordinator's share of a core while workers beat and nobody asks;
//! 5. its resident memory: with the workers, and with the videos.
//!
//! Growth is linear if the memory above that of an empty coordinator doubles with the
//! size. The fleet takes its share of the same cores.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a measurement")]

mod calls;
mod fleet;
mod served;

use std::{env::args, time::Duration};

use calls::Times;
use fleet::Fleet;
use served::Served;

/// How long the workers beat while nobody asks.
const IDLE: Duration = Duration::from_secs(5);

fn main() {
    let mut sizes = args().skip(1).map(|size| size.parse::<usize>().unwrap());
    let (workers, videos) = (sizes.next().unwrap_or(1_000), sizes.next().unwrap_or(10_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!(
        "workers videos |  join | create  p99 |    get  p99 |   page  p99 | cluster  p99 | core \
         | empty MiB +workers +videos"
    );
    for part in [4, 2, 1] {
        let (workers, videos) = (workers / part, videos / part);
        let served = Served::start(videos);
        let empty = served.resident_mib();
        let fleet = runtime.block_on(Fleet::gather(workers, &served));
        let with_workers = served.resident_mib();
        let (created, last) = calls::create(&served.http, videos);
        let with_videos = served.resident_mib();
        let calls = [
            calls::repeat(&served.http, &format!("/v1/videos/{last}")),
            calls::repeat(&served.http, "/v1/videos?limit=100"),
            calls::repeat(&served.http, "/v1/cluster"),
        ];
        let before = served.compute_seconds();
        std::thread::sleep(IDLE);
        let share = (served.compute_seconds() - before) / IDLE.as_secs_f64();
        let [get, page, cluster] = calls.map(|times| times.shown());
        println!(
            "{workers:7} {videos:6} | {:5.1} | {} | {get} | {page} | {cluster} | {:3.0} % | {empty:9.1} \
             {:+8.1} {:+7.1}",
            fleet.join_ms(),
            Times::shown(&created),
            share * 100.0,
            with_workers - empty,
            with_videos - with_workers,
        );
        assert_eq!(fleet.open(), workers, "sessions broke");
    }
}
