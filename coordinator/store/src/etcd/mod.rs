//! The store of a cluster, in etcd 3.4 or later.
//!
//! Keys are those of the trait behind a prefix of the cluster, so several clusters may
//! share an etcd. Revisions are etcd's own, which other clusters raise too.
//!
//! Every call has a deadline. Within it a call that was surely not received is tried
//! again, with growing pauses; so are calls that may be done twice without harm. A
//! commit whose answer is lost is not: its expectations might then fail because of
//! itself. It gives [`Error::Unavailable`], and the caller reads the keys.
//!
//! - `backoff`: how long to pause.
//! - `failure`: why a call came to nothing, and whether to make it again.
//! - `watch`: a watch that outlives connections.

mod backoff;
mod failure;
mod watch;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions,
    GetResponse, Identity, KeyValue, KvClient, LeaseClient, PutOptions, ResponseHeader, TlsOptions,
    Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use self::{
    backoff::Backoff,
    failure::{Failure, Retry, is_lease_gone, text},
    watch::EtcdWatch,
};
use crate::{
    Store, Watch, check,
    error::Error,
    record::{
        Action, Expect, LIST_MAX, LeaseId, List, Page, Record, Revision, VALUE_BYTES_MAX, Write,
    },
};

/// Time of a call. Chosen: longer than etcd takes to elect a leader.
const DEADLINE: Duration = Duration::from_secs(5);
/// A connection that has been silent for the first is asked, and given up after the
/// second. etcd refuses to be asked every 5 s.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// The longest answer: a full page, with room for keys and framing.
const ANSWER_BYTES_MAX: usize = LIST_MAX * (VALUE_BYTES_MAX + 4_096);

/// Where an etcd is, and whose records.
#[derive(Clone)]
pub struct Options {
    /// Addresses, `https://HOST:PORT` or `http://HOST:PORT`; one at least.
    pub endpoints: Vec<String>,
    /// Name of the cluster: what its keys are behind.
    pub cluster: String,
    /// What TLS needs, for `https`.
    pub tls: Option<Tls>,
}

/// Who is trusted, and who this is.
#[derive(Clone)]
pub struct Tls {
    /// The authority that signed etcd's certificate.
    pub ca_pem: Vec<u8>,
    /// What etcd asks a client for, if it does.
    pub client: Option<TlsClient>,
}

/// Who a client is, in PEM.
#[derive(Clone)]
pub struct TlsClient {
    /// Its certificate.
    pub certificate_pem: Vec<u8>,
    /// The certificate's key.
    pub key_pem: Vec<u8>,
}

/// A store in etcd.
#[derive(Clone)]
pub struct Etcd {
    connector: Connector,
    kv: KvClient,
    leases: LeaseClient,
}

/// Makes connections.
#[derive(Clone)]
struct Connector {
    endpoints: Vec<String>,
    options: ConnectOptions,
    /// What all keys begin with in etcd.
    root: String,
}

impl Etcd {
    /// A store in an etcd, which need not be up yet.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if an address, the cluster's name or a certificate is wrong.
    pub async fn new(options: Options) -> Result<Self, Error> {
        let Options { endpoints, cluster, tls } = options;
        check::key(&cluster)?;
        let root = format!("/filmloom/{cluster}/");
        let connector = Connector { endpoints, options: connect_options(tls), root };
        let client = connector.connect().await?;
        let kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { connector, kv, leases: client.lease_client() })
    }

    /// Makes a call within the deadline.
    async fn call<T, F: Future<Output = Result<T, etcd_client::Error>>>(
        &self,
        retry: Retry,
        mut call: impl FnMut(Self) -> F,
    ) -> Result<T, Failure> {
        let (mut backoff, mut last) = (Backoff::default(), None);
        let attempts = async {
            loop {
                let error = match call(self.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                };
                if !retry.is_due(&error) {
                    return Err(Failure::Answer(error));
                }
                last = Some(error.to_string());
                tokio::time::sleep(backoff.pause(backoff::random())).await;
            }
        };
        tokio::time::timeout(DEADLINE, attempts).await.unwrap_or_else(|_| {
            let last = last.unwrap_or_else(|| "it is silent".to_owned());
            Err(Failure::Late(format!("no answer of etcd within {DEADLINE:?}: {last}")))
        })
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        check::key(key)?;
        let path = self.connector.path(key);
        let get = |mut etcd: Self| {
            let path = path.clone();
            async move { etcd.kv.get(path, None).await }
        };
        let answer = self.call(Retry::Always, get).await?;
        answer.kvs().first().map(|kv| self.connector.record(kv)).transpose()
    }

    async fn list(&self, list: &List) -> Result<Page, Error> {
        check::list(list)?;
        let range = self.connector.range(list);
        let get = |mut etcd: Self| {
            let (from, options) = range.clone();
            async move { etcd.kv.get(from, Some(options)).await }
        };
        let answer = self.call(Retry::Always, get).await?;
        let revision = revision(answer.header())?;
        let records = answer.kvs().iter().map(|kv| self.connector.record(kv));
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let next = records.last().filter(|_| answer.more()).map(|record| record.key.clone());
        Ok(Page { records, next, revision })
    }

    async fn commit(&self, writes: &[Write]) -> Result<Revision, Error> {
        check::writes(writes)?;
        let transaction = self.connector.transaction(writes)?;
        let commit = |mut etcd: Self| {
            let transaction = transaction.clone();
            async move { etcd.kv.txn(transaction).await }
        };
        let answer = self.call(Retry::Unsent, commit).await.map_err(|failure| {
            let leases = writes.iter().filter_map(|write| match write.action {
                Action::Put { lease, .. } => lease,
                Action::Delete | Action::Check => None,
            });
            failure.of_lease(leases)
        })?;
        if answer.succeeded() { revision(answer.header()) } else { Err(conflict(writes, &answer)) }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        check::prefix(prefix)?;
        Ok(Box::new(EtcdWatch::new(self.connector.clone(), prefix, signed(after.0)?)))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        check::ttl(ttl)?;
        let seconds = signed(ttl.as_secs() + u64::from(0 < ttl.subsec_nanos()))?;
        // A lease that was granted without an answer ends by itself.
        let grant = |mut etcd: Self| async move { etcd.leases.grant(seconds, None).await };
        let answer = self.call(Retry::Always, grant).await?;
        Ok(LeaseId(answer.id().cast_unsigned()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let id = lease.0.cast_signed();
        let keep = |mut etcd: Self| async move { etcd.leases.keep_alive(id).await };
        let kept = self.call(Retry::Always, keep).await;
        kept.map(drop).map_err(|failure| failure.of_lease([lease]))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        let id = lease.0.cast_signed();
        let revoke = |mut etcd: Self| async move { etcd.leases.revoke(id).await };
        match self.call(Retry::Always, revoke).await {
            Err(Failure::Answer(error)) if is_lease_gone(&error) => Ok(()),
            revoked => Ok(revoked.map(drop)?),
        }
    }
}

impl Connector {
    /// Takes connections up when they are used.
    async fn connect(&self) -> Result<Client, Error> {
        let connected = Client::connect(&self.endpoints, Some(self.options.clone())).await;
        connected.map_err(|error| {
            let problem = format!("etcd at {:?}: {}", self.endpoints, text(&error));
            Error::Invalid { problem }
        })
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.root)
    }

    fn key(&self, path: &[u8]) -> Result<String, Error> {
        let key = path.strip_prefix(self.root.as_bytes()).map(<[u8]>::to_vec);
        key.and_then(|key| String::from_utf8(key).ok()).ok_or_else(|| Error::Damaged {
            problem: format!("etcd gave the key {:?}", String::from_utf8_lossy(path)),
        })
    }

    fn record(&self, kv: &KeyValue) -> Result<Record, Error> {
        let (key, value) = (self.key(kv.key())?, kv.value().to_vec());
        Ok(Record { key, value, revision: unsigned(kv.mod_revision())? })
    }

    /// Where a list begins, and the rest of it. Keys are ASCII, so that a prefix' end
    /// has no carry.
    fn range(&self, List { prefix, after, limit }: &List) -> (Vec<u8>, GetOptions) {
        let from = match after.as_ref().filter(|after| prefix <= *after) {
            Some(after) => [self.path(after).as_bytes(), b"\0"].concat(),
            None => self.path(prefix).into_bytes(),
        };
        let mut end = self.path(prefix).into_bytes();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        // etcd takes a range that ends before it begins for an empty one.
        let limit = i64::try_from(*limit).expect("a page's limit is small");
        (from, GetOptions::new().with_range(end).with_limit(limit))
    }

    /// The writes; if they are not done, the revisions that were found.
    fn transaction(&self, writes: &[Write]) -> Result<Txn, Error> {
        let (mut compares, mut done, mut otherwise) = (Vec::new(), Vec::new(), Vec::new());
        for Write { key, expect, action } in writes {
            let path = self.path(key);
            let expected = match *expect {
                Expect::Absent => Some(0),
                Expect::Revision(revision) => Some(signed(revision.0)?),
                Expect::Any => None,
            };
            compares.extend(
                expected.map(|expected| {
                    Compare::mod_revision(path.clone(), CompareOp::Equal, expected)
                }),
            );
            let found = GetOptions::new().with_keys_only();
            otherwise.push(TxnOp::get(path.clone(), Some(found)));
            match action {
                Action::Put { value, lease } => {
                    let lease = lease.map_or(0, |lease| lease.0.cast_signed());
                    let options = PutOptions::new().with_lease(lease);
                    done.push(TxnOp::put(path, value.clone(), Some(options)));
                }
                Action::Delete => done.push(TxnOp::delete(path, Some(DeleteOptions::new()))),
                Action::Check => {}
            }
        }
        Ok(Txn::new().when(compares).and_then(done).or_else(otherwise))
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connector.fmt(f)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, root, .. } = self;
        f.debug_struct("Etcd").field("endpoints", endpoints).field("root", root).finish()
    }
}

fn connect_options(tls: Option<Tls>) -> ConnectOptions {
    let (interval, timeout) = KEEP_ALIVE;
    let options = ConnectOptions::new()
        .with_connect_timeout(DEADLINE)
        .with_keep_alive(interval, timeout)
        .with_require_leader(true);
    let Some(Tls { ca_pem, client }) = tls else { return options };
    let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca_pem));
    if let Some(TlsClient { certificate_pem, key_pem }) = client {
        tls = tls.identity(Identity::from_pem(certificate_pem, key_pem));
    }
    options.with_tls(tls)
}

/// The first write whose expectation does not hold for what was found.
fn conflict(writes: &[Write], answer: &TxnResponse) -> Error {
    let found = answer.op_responses().into_iter().map(|answer| match answer {
        TxnOpResponse::Get(get) => found_revision(&get),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    });
    let conflict = writes.iter().zip(found).find(|(write, found)| !write.expect.holds(*found));
    match conflict {
        Some((write, found)) => Error::Conflict { key: write.key.clone(), found },
        None => Error::Unavailable { problem: "etcd's answer contradicts itself".to_owned() },
    }
}

fn found_revision(get: &GetResponse) -> Option<Revision> {
    get.kvs().first().and_then(|kv| unsigned(kv.mod_revision()).ok())
}

fn revision(header: Option<&ResponseHeader>) -> Result<Revision, Error> {
    unsigned(header.map_or(-1, ResponseHeader::revision))
}

fn unsigned(revision: i64) -> Result<Revision, Error> {
    let problem = || Error::Damaged { problem: format!("etcd gave revision {revision}") };
    u64::try_from(revision).map(Revision).map_err(|_| problem())
}

fn signed(number: u64) -> Result<i64, Error> {
    let problem = || Error::Invalid { problem: format!("{number} is too large for etcd") };
    i64::try_from(number).map_err(|_| problem())
}
