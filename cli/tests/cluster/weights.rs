//! Workers that do not have the model: they fetch what their part of it needs.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::pool::{Pool, Process, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";
const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/mini/weights");

#[test]
fn workers_without_the_weights_make_the_same_video_and_fetch_only_their_part() {
    let folder = tempfile::tempdir().unwrap();
    let model = changed_model(folder.path());
    let model = model.to_str().unwrap();
    let alone = generate(&folder.path().join("alone.mp4"), &["--model", model]);
    let embedded = generate(&folder.path().join("embedded.mp4"), &[]);
    assert!(alone != embedded, "the change can be seen");
    let mut pool = Pool::start(&["--model", model]);
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let data = |path: &PathBuf| path.to_str().unwrap().to_owned();
    pool.add_worker(&["--data", &data(&first), "--layers", "0..3", "--roles", "layers"]);
    pool.add_worker(&["--data", &data(&second), "--layers", "3..8"]);
    pool.wait_ready(2);

    let id = pool.create(PROMPT, 5, 1.0);
    pool.wait_completed(&id);

    assert!(pool.content(&id) == alone);
    let [first, second] = [first, second].map(|data| blobs(&data));
    let whole: u64 = sizes(Path::new(model)).values().sum();
    let bytes = |blobs: &BTreeMap<String, u64>| blobs.values().sum::<u64>();
    assert!(bytes(&first) < whole / 2, "{} of {whole}", bytes(&first));
    assert!(bytes(&second) < whole * 3 / 4, "{} of {whole}", bytes(&second));
    let shared = first.iter().filter(|(name, _)| second.contains_key(*name));
    let shared: u64 = shared.map(|(_, bytes)| bytes).sum();
    // Configuration, and the time embedding, which every stage has.
    assert!(shared < whole / 10, "{shared} bytes of {whole} are in both");
}

#[test]
fn fetch_goes_on_where_it_was_when_the_worker_or_the_coordinator_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let model = changed_model(folder.path());
    let model = model.to_str().unwrap();
    let mut pool = Pool::start(&["--model", model]);
    let (slow, data) = (slow_road(&pool.grpc), folder.path().join("data"));
    let here = || blobs(&data).values().sum::<u64>();
    let log = folder.path().join("worker.log");
    let start = |pool: &Pool| {
        let mut worker: Command = pool.worker(&data);
        worker.args(["--token", &pool.token(), "--name", "slow", "--join", &slow]);
        Process(worker.stderr(fs::File::create(&log).unwrap()).spawn().unwrap())
    };
    let worker = start(&pool);
    pool.wait("some weights are here", || (4_000_000 < here()).then_some(()));
    drop(worker);
    let before = here();

    let _worker = start(&pool);
    pool.wait("some more are here", || (before + 4_000_000 < here()).then_some(()));
    pool.kill_coordinator();
    pool.serve(&["--model", model]);
    pool.wait_ready(1);

    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("fetching weights: ") && said.contains(" MB/s"), "{said}");
    let line = said.lines().rfind(|line| line.contains("weights: all here")).unwrap();
    let [fetched, kept] = ["fetched_bytes=", "kept_bytes="].map(|name| number(line, name));
    assert!(before <= kept, "{before} bytes were here, {said}");
    assert_eq!(fetched + kept, here(), "{said}");
}

/// The number behind `name`.
fn number(line: &str, name: &str) -> u64 {
    let rest = line.split_once(name).unwrap().1;
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// Makes a video and gives its file.
fn generate(output: &Path, arguments: &[&str]) -> Vec<u8> {
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", "1", "--seed", "5", "-q", "--threads", "1"]);
    succeed(command.args(arguments).arg("-o").arg(output));
    fs::read(output).unwrap()
}

/// A copy of the embedded model with other values at the end of some layers.
pub(crate) fn changed_model(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    for path in sizes(Path::new(WEIGHTS)).keys() {
        let (from, to) = (Path::new(WEIGHTS).join(path), model.join(path));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    let shard = model.join("transformer/diffusion_pytorch_model-00001-of-00003.safetensors");
    let mut content = fs::read(&shard).unwrap();
    let changed = content.len() - 400_000;
    // The upper half of an f32's mantissa.
    content[changed..].iter_mut().skip(2).step_by(4).for_each(|byte| *byte ^= 0x40);
    fs::write(shard, content).unwrap();
    model
}

/// What a worker has fetched.
fn blobs(data: &Path) -> BTreeMap<String, u64> {
    sizes(&data.join("blobs"))
}

/// Files below a folder, with their lengths. One that vanishes meanwhile counts not.
fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let below = self::sizes(&path);
            sizes.extend(below.into_iter().map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            sizes.insert(name, metadata.len());
        }
    }
    sizes
}

/// An address from which connections go on to `target`; each carries 5 MB/s at most
/// towards whoever opened it.
fn slow_road(target: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, target) = (listener.local_addr().unwrap().to_string(), target.to_owned());
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let Ok(far) = TcpStream::connect(&target) else { continue };
            let (near_end, far_end) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || carry(near, far, Duration::ZERO));
            thread::spawn(move || carry(far_end, near_end, Duration::from_millis(10)));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, pause: Duration) {
    let mut buffer = vec![0; 50_000];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        thread::sleep(pause);
    }
    // Either may be closed already.
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
