//! Records in a real etcd that speaks TLS and asks for a client's certificate.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::pool::{Pool, Process, filmloom};

#[test]
fn etcd_is_spoken_with_by_tls_and_lets_in_who_has_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    write_certificates(folder.path());
    let Some((_etcd, address)) = start(folder.path()) else { return };
    let store = format!("etcd:{address}");
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let good = ["--store", &store, "--etcd-cacert", &ca];
    let client = ["--etcd-cert", &certificate, "--etcd-key", &key];

    let mut pool = Pool::start(&[&good[..], &client].concat());
    pool.add_worker(&[]);
    pool.wait("it has joined", || (pool.members().len() == 1).then_some(()));
    assert!(!pool.data().join("state.redb").exists(), "records are in etcd");

    // Others get no answer: it is waited for, as it is when etcd is away.
    let foreign = path("foreign.pem");
    for (number, refused) in
        [good.to_vec(), [&["--store", &store, "--etcd-cacert", &foreign][..], &client].concat()]
            .into_iter()
            .enumerate()
    {
        let log = folder.path().join(format!("{number}.log"));
        let mut serve = filmloom();
        serve.args(["serve", "--no-worker", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
        serve.arg("--data").arg(folder.path().join(number.to_string())).args(refused);
        let serve = Process(serve.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
        let said = || fs::read_to_string(&log).unwrap();
        pool.wait("it waits", || said().contains("waiting for the state store").then_some(()));
        assert!(!said().contains("workers at"), "{}", said());
        drop(serve);
    }
}

/// An etcd in this folder and its address, if the machine has the program.
fn start(folder: &Path) -> Option<(Process, String)> {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("FILMLOOM_REQUIRE_ETCD").is_none(), "there is no etcd");
        // Beside the test's captured output, so that it is seen.
        let note = "NOT TESTED: records in etcd by TLS, as there is none\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        return None;
    }
    let [url, peer] =
        ["https", "http"].map(|scheme| format!("{scheme}://127.0.0.1:{}", free_port()));
    let mut etcd = Command::new("etcd");
    etcd.arg("--data-dir").arg(folder.join("data"));
    etcd.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}"), "--client-cert-auth"]);
    for (option, file) in [
        ("--trusted-ca-file", "ca.pem"),
        ("--cert-file", "server.pem"),
        ("--key-file", "server.key"),
    ] {
        etcd.arg(option).arg(folder.join(file));
    }
    let etcd = etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    Some((Process(etcd), url))
}

/// An authority with a server's and a client's certificate, and one that signed neither.
fn write_certificates(folder: &Path) {
    let write = |name: &str, pem: String| fs::write::<PathBuf, _>(folder.join(name), pem).unwrap();
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    };
    let (pem, issuer) = authority();
    write("ca.pem", pem);
    write("foreign.pem", authority().0);
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
