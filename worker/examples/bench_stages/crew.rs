//! The processes that are measured, as the one that measures them sees them.

use std::{
    env::current_exe,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use identity::{Authority, FileNames, Subject, Validity};
use plan::placement::{Link, Speed};
use tempfile::TempDir;

use crate::{
    cable::Cable,
    hop::NODES,
    member::{Acknowledged, COMMAND},
};

/// Places of the members: the halves, then whole models.
pub(crate) const LEAD: usize = 0;
pub(crate) const LAST: usize = 1;
pub(crate) const SOLO_0: usize = 2;
pub(crate) const SOLO_1: usize = 3;
pub(crate) const MEMBERS: usize = 4;

/// All processes. They end when it is dropped, and when this process ends.
pub(crate) struct Crew {
    members: [Member; MEMBERS],
    _identities: TempDir,
}

/// A chunk that came out of a lead.
pub(crate) struct Made {
    pub(crate) job: u32,
    pub(crate) chunk: u32,
    /// Seconds since the chunks were asked for.
    pub(crate) seconds: f64,
    /// Of its bits.
    pub(crate) digest: String,
}

struct Member {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Crew {
    /// Starts all members, with a hop between the halves: over a cable, if there is one,
    /// or over loopback.
    pub(crate) fn start(layers: usize, cable: Option<&Cable>) -> Self {
        let identities = tempfile::tempdir().unwrap();
        store_identities(identities.path());
        let folder = |at: usize| identities.path().join(at.to_string()).display().to_string();
        let range = |first: usize, end: usize| format!("{first}..{end}");
        let half = layers / 2;
        let end = |at: usize| cable.map_or(&[][..], |cable| cable.prefix(at));
        let host = cable.map_or("127.0.0.1", |cable| cable.address(LAST));
        let last = ["last", &range(half, layers), &folder(LAST), host];
        let (mut last, address) = Member::start(end(LAST), 1, &last);
        let lead = ["lead", &range(0, half), &folder(LEAD), &address];
        let (lead, _) = Member::start(end(LEAD), 0, &lead);
        let solo = |core| Member::start(&[], core, &["solo", &range(0, layers)]).0;
        last.ask("link");
        Self { members: [lead, last, solo(0), solo(1)], _identities: identities }
    }

    /// Opens a job on every member that it passes; the lead begins its first chunk.
    pub(crate) fn open(&mut self, lead: usize, job: u32, seed: u64, acknowledged: Acknowledged) {
        let order = format!("open {job} {seed} {}", acknowledged.name());
        if lead == LEAD {
            self.members[LAST].ask(&order);
        }
        self.members[lead].ask(&order);
    }

    /// Asks each of these leads for so many chunks of each of these jobs.
    pub(crate) fn go(&mut self, leads: &[usize], jobs: &[u32], chunks: u32) {
        let jobs: Vec<String> = jobs.iter().map(u32::to_string).collect();
        let order = format!("go {chunks} {}", jobs.join(" "));
        leads.iter().for_each(|&lead| self.members[lead].tell(&order));
    }

    /// Waits for the chunks that a lead was asked for.
    pub(crate) fn made(&mut self, lead: usize) -> Vec<Made> {
        let chunk = |line: String| {
            let fields = line.strip_prefix("made ")?.split(' ').collect::<Vec<_>>();
            let [job, chunk, seconds, digest] = fields[..] else { panic!("{line}") };
            Some(Made {
                job: job.parse().unwrap(),
                chunk: chunk.parse().unwrap(),
                seconds: seconds.parse().unwrap(),
                digest: digest.to_owned(),
            })
        };
        std::iter::from_fn(|| chunk(self.members[lead].answer())).collect()
    }

    /// Seconds for which every member's device has computed so far.
    pub(crate) fn compute_seconds(&mut self) -> [f64; MEMBERS] {
        self.members.each_mut().map(|member| numbers(&member.ask("compute"))[0])
    }

    /// Profiles of both cores.
    pub(crate) fn speeds(&mut self) -> [Speed; 2] {
        [LEAD, LAST].map(|member| {
            let found = numbers(&self.members[member].ask("profile"));
            let [layer_seconds, embedding_seconds, head_seconds] = found[..] else {
                panic!("{found:?}")
            };
            let (decode_seconds, text_seconds) = (None, None);
            Speed { layer_seconds, embedding_seconds, head_seconds, decode_seconds, text_seconds }
        })
    }

    /// The hop, from the lead and to it.
    pub(crate) fn links(&mut self) -> [Link; 2] {
        [LEAD, LAST].map(|member| {
            let found = numbers(&self.members[member].ask("link"));
            let [bytes_per_second, latency_seconds] = found[..] else { panic!("{found:?}") };
            Link { bytes_per_second, latency_seconds }
        })
    }
}

impl Member {
    /// Starts a process on a core; gives what it says first, too. `place` goes before
    /// its command.
    fn start(place: &[&str], core: usize, arguments: &[&str]) -> (Self, String) {
        let core = core.to_string();
        let command = [place, &["taskset", "-c", &core]].concat();
        let mut process = Command::new(command[0])
            .args(&command[1..])
            .arg(current_exe().unwrap())
            .arg(COMMAND)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset starts a process on a core: install util-linux");
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut member = Self { process, orders, answers };
        let address = member.answer();
        (member, address)
    }

    fn ask(&mut self, order: &str) -> String {
        self.tell(order);
        self.answer()
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        let bytes = self.answers.read_line(&mut line).unwrap();
        assert!(bytes != 0, "a process of the benchmark has ended: see above why");
        line.trim_end().to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Certificates of the halves, in a folder each.
fn store_identities(folder: &Path) {
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let authority = Authority::create(now_unix).unwrap();
    for (at, node) in NODES.into_iter().enumerate() {
        let validity = Validity { now_unix, lifetime_s: 24 * 3600 };
        let identity = authority.issue(&Subject::Node(node), validity).unwrap();
        identity.store(&folder.join(at.to_string()), FileNames::Node).unwrap();
    }
}

fn numbers(line: &str) -> Vec<f64> {
    line.split(' ').map(|number| number.parse().unwrap()).collect()
}
