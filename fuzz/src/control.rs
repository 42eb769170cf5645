//! What a worker and the coordinator say to each other, message by message.

use std::sync::OnceLock;

use identity::{Authority, Identity, JoinToken, Key, Subject, Validity};
use plan::passes::chunk_passes;
use prost::Message;
use proto::{
    VERSIONS, common_version,
    control::{
        self, FROM_WORKER_BYTES_MAX, JOIN_BYTES_MAX, TO_WORKER_BYTES_MAX, wire,
        wire::{from_worker::Kind as Said, to_worker::Kind as Asked},
    },
};
use types::{Epoch, Fence, JobId, NodeId, Sampler, SizedChunk, StepList, TokenGrid, Update};

use crate::{
    Target,
    frames::{decoded, framed, messages},
    mutate::Shape,
};

/// A request to join: versions, name, token, public key; signed.
pub(crate) const JOIN_REQUEST: Target = Target {
    name: "join_request",
    shape: Shape::Message,
    decode: join_request,
    seeds: || vec![request().encode_to_vec()],
    input_bytes_max: JOIN_BYTES_MAX,
    held_bytes: 16 << 10,
    held_per_byte: 8,
    cases: 8_000,
};

/// What a machine gets that joins: an identity of it.
pub(crate) const JOIN_REPLY: Target = Target {
    name: "join_reply",
    shape: Shape::Message,
    decode: join_reply,
    seeds: || vec![reply().encode_to_vec()],
    input_bytes_max: JOIN_BYTES_MAX,
    held_bytes: 32 << 10,
    held_per_byte: 8,
    cases: 4_000,
};

/// A worker's messages, each for itself.
pub(crate) const FROM_WORKER: Target = Target {
    name: "from_worker",
    shape: Shape::Frames,
    decode: from_worker,
    seeds: || said().into_iter().map(|message| framed([message])).collect(),
    input_bytes_max: FROM_WORKER_BYTES_MAX,
    held_bytes: 16 << 10,
    held_per_byte: 96,
    cases: 20_000,
};

/// The coordinator's messages, each for itself.
pub(crate) const TO_WORKER: Target = Target {
    name: "to_worker",
    shape: Shape::Frames,
    decode: to_worker,
    seeds: || asked().into_iter().map(|message| framed([message])).collect(),
    input_bytes_max: TO_WORKER_BYTES_MAX,
    held_bytes: 16 << 10,
    held_per_byte: 96,
    cases: 20_000,
};

/// When all of it happens, in Unix seconds.
pub(crate) const NOW_UNIX: u64 = 1_800_000_000;

/// An authority, and a key that is not its own.
pub(crate) fn authority() -> &'static (Authority, Key) {
    static MADE: OnceLock<(Authority, Key)> = OnceLock::new();
    MADE.get_or_init(|| {
        let authority = Authority::create(NOW_UNIX).expect("the system has random numbers");
        (authority, Key::generate().expect("the system has random numbers"))
    })
}

fn join_request(bytes: &[u8]) -> Result<(), String> {
    let wire::JoinRequest { versions, token, public_key, name } = decoded(bytes)?;
    let versions = versions.unwrap_or_default();
    common_version(versions.oldest..=versions.newest).map_err(|error| error.to_string())?;
    control::node_name(&name).map_err(|error| error.to_string())?;
    let token = token.parse::<JoinToken>().map_err(|error| error.to_string())?;
    let subject = Subject::Node(identity::node_id(&public_key));
    let validity = Validity { now_unix: NOW_UNIX, lifetime_s: 3600 };
    let certificate = authority().0.sign(&subject, &public_key, validity);
    let certificate = certificate.map_err(|error| error.to_string())?;
    assert_eq!(identity::peer(&[certificate]), Ok(Some(subject)), "with token {}", token.id);
    Ok(())
}

fn join_reply(bytes: &[u8]) -> Result<(), String> {
    let wire::JoinReply { node, certificate, authority: root } = decoded(bytes)?;
    control::node(&node).map_err(|error| error.to_string())?;
    // Of the first key that was made: a corpus holds certificates of another one.
    let made = Identity::new(authority().1.clone(), certificate.into(), root.into());
    match made {
        Ok(_) | Err(identity::Error::KeyMismatch) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn from_worker(bytes: &[u8]) -> Result<(), String> {
    for message in messages::<wire::FromWorker>(bytes, FROM_WORKER_BYTES_MAX) {
        let message = control::from_worker(message?).map_err(|error| error.to_string())?;
        read_said(message.kind.ok_or("it says nothing")?).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Reads all that the coordinator reads.
fn read_said(said: Said) -> Result<(), proto::Malformed> {
    match said {
        Said::Hello(hello) => {
            control::node(&hello.node)?;
            control::boot(&hello.boot)?;
            control::offer(&hello)?;
            control::addresses(hello.addresses)?;
            hello.held.into_iter().try_for_each(|held| control::fence(Some(held)).map(drop))
        }
        Said::Heartbeat(beat) => {
            beat.links.iter().try_for_each(|seen| control::node(&seen.peer).map(drop))?;
            beat.progress.into_iter().try_for_each(|job| control::fence(job.fence).map(drop))
        }
        Said::Opened(wire::Opened { fence, .. })
        | Said::Closed(wire::Closed { fence })
        | Said::JobFailed(wire::JobFailed { fence, .. }) => control::fence(fence).map(drop),
        Said::LinkMeasured(wire::LinkMeasured { peer, .. })
        | Said::LinkFailed(wire::LinkFailed { peer, .. }) => control::node(&peer).map(drop),
        Said::Profiled(profiled) => control::probe(&profiled).map(drop),
        Said::StageReady(_) | Said::StageFailed(_) | Said::Leaving(_) => Ok(()),
    }
}

fn to_worker(bytes: &[u8]) -> Result<(), String> {
    for message in messages::<wire::ToWorker>(bytes, TO_WORKER_BYTES_MAX) {
        let message = control::to_worker(message?).map_err(|error| error.to_string())?;
        read_asked(message.kind.ok_or("it asks nothing")?)?;
    }
    Ok(())
}

/// Reads all that a worker reads.
fn read_asked(asked: Asked) -> Result<(), String> {
    let shown = |error: proto::Malformed| error.to_string();
    match asked {
        Asked::Welcome(wire::Welcome { coordinator, model, .. }) => {
            control::node(&coordinator).map_err(shown)?;
            control::model_digest(&model.unwrap_or_default().digest).map(drop).map_err(shown)
        }
        Asked::Profile(profile) => control::grid(profile.grid).map(drop).map_err(shown),
        Asked::Assign(assign) => {
            control::grid(assign.grid).map_err(shown)?;
            assign.layers.map(control::layers).transpose().map_err(shown)?;
            assign.peers.into_iter().try_for_each(|peer| read_peer(Some(peer))).map_err(shown)
        }
        Asked::Encode(wire::Encode { fence, .. }) | Asked::Close(wire::Close { fence }) => {
            control::fence(fence).map(drop).map_err(shown)
        }
        Asked::Open(open) => read_open(open),
        Asked::MeasureLink(wire::MeasureLink { peer, .. })
        | Asked::Connect(wire::Connect { peer }) => read_peer(peer).map_err(shown),
        Asked::Refusal(_) | Asked::Release(_) | Asked::Drain(_) => Ok(()),
    }
}

fn read_open(open: wire::Open) -> Result<(), String> {
    let shown = |error: proto::Malformed| error.to_string();
    control::fence(open.fence).map_err(shown)?;
    control::grid(open.grid).map_err(shown)?;
    for context in &open.contexts {
        control::digest(&context.digest).map_err(shown)?;
    }
    let sampler = control::sampler(open.sampler).map_err(shown)?;
    for chunk in [0, 1, open.chunks] {
        chunk_passes(&sampler, chunk).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read_peer(peer: Option<wire::Peer>) -> Result<(), proto::Malformed> {
    let Some(peer) = peer else { return Ok(()) };
    control::node(&peer.node)?;
    control::addresses(peer.addresses).map(drop)
}

fn request() -> wire::JoinRequest {
    let (authority, key) = authority();
    let token = JoinToken::create(authority.fingerprint()).expect("there are random numbers");
    wire::JoinRequest {
        versions: Some(versions()),
        token: token.to_string(),
        public_key: key.public_der(),
        name: "attic".to_owned(),
    }
}

fn reply() -> wire::JoinReply {
    let (authority, key) = authority();
    let validity = Validity { now_unix: NOW_UNIX, lifetime_s: 3600 };
    let subject = Subject::Node(key.node_id());
    let certificate = authority.sign(&subject, &key.public_der(), validity);
    wire::JoinReply {
        node: control::node_bytes(key.node_id()),
        certificate: certificate.expect("the key is one").to_vec(),
        authority: authority.certificate().to_vec(),
    }
}

fn versions() -> wire::Versions {
    wire::Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }
}

pub(crate) fn fence() -> Fence {
    Fence { job: JobId(0x0102), epoch: Epoch(1) }
}

/// One of each of a worker's messages.
pub(crate) fn said() -> Vec<wire::FromWorker> {
    let fence = Some(fence().into());
    let peer = control::node_bytes(NodeId(2));
    let problem = "the device has no room".to_owned();
    let counters = wire::Counters { runs: 7, compute_seconds: 1.5, ..Default::default() };
    let kinds = vec![
        Said::Hello(hello()),
        Said::Heartbeat(wire::Heartbeat {
            progress: vec![wire::Progress { fence: fence.clone(), chunk: 3 }],
            memory_used_bytes: 1 << 30,
            counters: Some(counters),
            links: vec![wire::LinkSeen {
                peer: peer.clone(),
                bytes_per_second: 1e8,
                latency_seconds: Some(1e-3),
            }],
            loading: 5 << 20,
        }),
        Said::Profiled(wire::Profiled {
            problem: None,
            layer_seconds: 0.5,
            embedding_seconds: 0.1,
            head_seconds: 0.1,
            decode_seconds: Some(0.3),
            text_seconds: Some(0.2),
            probe_digest: vec![7; 32],
        }),
        Said::StageReady(wire::StageReady { assignment: 1, load_seconds: 2.0 }),
        Said::StageFailed(wire::StageFailed { assignment: 1, problem: problem.clone() }),
        Said::Opened(wire::Opened { fence: fence.clone(), problem: None }),
        Said::Closed(wire::Closed { fence: fence.clone() }),
        Said::JobFailed(wire::JobFailed { fence, problem: problem.clone() }),
        Said::Leaving(wire::Leaving { reason: "it was stopped".to_owned() }),
        Said::LinkMeasured(wire::LinkMeasured {
            peer: peer.clone(),
            problem: None,
            bytes_per_second: 1e8,
            latency_seconds: 1e-4,
        }),
        Said::LinkFailed(wire::LinkFailed { peer, problem }),
    ];
    let message = |kind| wire::FromWorker { incarnation: 1, kind: Some(kind) };
    kinds.into_iter().map(message).collect()
}

pub(crate) fn hello() -> wire::Hello {
    wire::Hello {
        versions: Some(versions()),
        node: control::node_bytes(NodeId(1)),
        boot: vec![9; 16],
        name: "attic".to_owned(),
        software: "filmloom 0.1.0".to_owned(),
        device: "a processor".to_owned(),
        threads: 8,
        classes: vec!["cpu-f32".to_owned()],
        memory_bytes: 1 << 34,
        limits: Some(wire::Limits {
            layers: Some(wire::LayerRange { first: 0, end: 3 }),
            memory_bytes_max: Some(1 << 33),
            layers_share_max: Some(0.5),
        }),
        roles: Some(wire::Roles { layers: true, text: true, decoder: true }),
        addresses: vec!["192.0.2.1:7843".to_owned()],
        models: vec![vec![5; 32]],
        held: vec![fence().into()],
        fetches: true,
        draining: true,
    }
}

/// One of each of the coordinator's messages.
fn asked() -> Vec<wire::ToWorker> {
    let fence: Option<wire::Fence> = Some(fence().into());
    let node = |id| control::node_bytes(NodeId(id));
    let model = Some(wire::Model { name: "house/mini".to_owned(), digest: vec![5; 32] });
    let grid: Option<wire::Grid> = Some(TokenGrid { frames: 3, rows: 5, columns: 8 }.into());
    let addresses = vec!["192.0.2.1:7843".to_owned(), "[2001:db8::1]:7843".to_owned()];
    let peer = wire::Peer { node: node(2), way: wire::peer::Way::Dial.into(), addresses };
    let kinds = vec![
        Asked::Welcome(wire::Welcome {
            version: 1,
            incarnation: 1,
            coordinator: node(0xc0),
            model: model.clone(),
            heartbeat_ms: 1000,
        }),
        Asked::Refusal(wire::Refusal { reason: 1, message: "update the older one".to_owned() }),
        Asked::Profile(wire::Profile { model: model.clone(), grid }),
        Asked::Assign(wire::Assign {
            assignment: 1,
            model,
            numeric_class: "cpu-f32".to_owned(),
            layers: Some(wire::LayerRange { first: 0, end: 8 }),
            text: true,
            decoder: true,
            grid,
            peers: vec![peer.clone()],
            next: node(2),
            lead: Vec::new(),
        }),
        Asked::Release(wire::Release { assignment: 1 }),
        Asked::Encode(wire::Encode {
            fence: fence.clone(),
            prompts: vec!["a red ball".to_owned(), "then it rains".to_owned()],
            unconditional: true,
        }),
        Asked::Open(wire::Open {
            fence: fence.clone(),
            assignment: 1,
            grid,
            uncommitted_chunks_max: 2,
            seed: 7,
            sampler: Some((&sampler()).into()),
            chunks: 20,
            contexts: vec![wire::ContextUse { digest: vec![1; 32], ..Default::default() }; 3],
        }),
        Asked::Close(wire::Close { fence }),
        Asked::MeasureLink(wire::MeasureLink { peer: Some(peer.clone()) }),
        Asked::Drain(wire::Drain {}),
        Asked::Connect(wire::Connect { peer: Some(peer) }),
    ];
    let message = |kind| wire::ToWorker { incarnation: 1, kind: Some(kind) };
    kinds.into_iter().map(message).collect()
}

fn sampler() -> Sampler {
    let listed = StepList::Listed(vec![900.0, 600.0, 300.0]);
    Sampler {
        update: Update::Renoise,
        shift: 3.0,
        first_chunk: SizedChunk { steps: StepList::Even(4), guidance: 3.0 },
        later_chunks: SizedChunk { steps: listed, guidance: 1.0 },
    }
}
