//! What HTTP clients wait for.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use ureq::Agent;

/// Clients that ask for videos at once.
const CLIENTS: usize = 4;
/// Calls of one kind.
const CALLS: usize = 200;

/// How long calls of one kind took, in ms, the shortest first.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// The median and the 99th percentile.
    pub(crate) fn shown(&self) -> String {
        let at = |percent: usize| self.0[(self.0.len() - 1) * percent / 100];
        format!("{:6.2} {:4.1}", at(50), at(99))
    }
}

/// Asks for so many videos; gives the times, and the last one's id.
pub(crate) fn create(http: &str, videos: usize) -> (Times, String) {
    let (asked, url) = (AtomicUsize::new(0), format!("http://{http}/v1/videos"));
    let client = || {
        let (agent, mut times, mut last) = (Agent::new_with_defaults(), Vec::new(), None);
        loop {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            if videos <= number {
                return (times, last);
            }
            let wish = json!({ "prompt": "a large red ball bounces", "seconds": "2",
                "seed": number, "user": format!("user {}", number % 100) });
            let begun = Instant::now();
            let mut answer = agent.post(&url).send_json(&wish).unwrap();
            let video: Value = answer.body_mut().read_json().unwrap();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            last = video["id"].as_str().map(|id| (number, id.to_owned()));
        }
    };
    let found: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let last = found.iter().filter_map(|(_, last)| last.clone()).max().unwrap();
    (sorted(found.into_iter().flat_map(|(times, _)| times)), last.1)
}

/// Asks for the same again and again.
pub(crate) fn repeat(http: &str, path: &str) -> Times {
    let (agent, url) = (Agent::new_with_defaults(), format!("http://{http}{path}"));
    sorted((0..CALLS).map(|_| {
        let begun = Instant::now();
        agent.get(&url).call().unwrap().body_mut().read_to_vec().unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    }))
}

fn sorted(times: impl Iterator<Item = f64>) -> Times {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    Times(times)
}
