//! What an authority signs, and what members keep of it.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::{fs, path::Path};

use identity::{
    Authority, Error, FileError, FileNames, Fingerprint, Identity, Key, Subject, Validity, peer,
    write_secret_file,
};
use proptest::{collection::vec, prelude::*, sample::Index};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use types::NodeId;
use x509_parser::parse_x509_certificate;

const NOW: u64 = 1_800_000_000;
const DAY_S: u64 = 24 * 3600;

#[test]
fn an_authority_is_the_same_after_its_folder_was_read() {
    let folder = TempDir::new().unwrap();
    let authority = authority();
    authority.store(folder.path()).unwrap();

    let read = Authority::load(folder.path()).unwrap();

    assert_eq!(read.fingerprint(), authority.fingerprint());
    assert_eq!(read.expires_unix(), authority.expires_unix());
    let key = Key::generate().unwrap();
    let certificate = read.sign(&Subject::Coordinator, &key.public_der(), validity()).unwrap();
    assert!(Identity::new(key, certificate, authority.certificate().clone()).is_ok());
}

#[test]
fn authorities_differ_in_fingerprint_and_the_fingerprint_in_its_text() {
    let (first, second) = (authority().fingerprint(), authority().fingerprint());
    assert_ne!(first, second);
    assert_eq!(first.to_string().parse(), Ok(first));
    assert_ne!(first.to_string(), second.to_string());
    assert!("00".repeat(31).parse::<Fingerprint>().is_err());
}

#[test]
fn an_authority_needs_its_own_key_and_an_authoritys_certificate() {
    let (authority, other) = (authority(), authority());
    let (certificate, key) = (authority.certificate_pem(), authority.key_pem());
    let read = |certificate: &str, key: &str| Authority::from_pem(certificate, key).err();

    assert_eq!(read(&certificate, &key), None);
    assert_eq!(read(&certificate, &other.key_pem()), Some(Error::KeyMismatch));
    assert_eq!(read("", &key), Some(Error::Pem { what: "certificate" }));
    assert_eq!(read(&certificate, ""), Some(Error::Pem { what: "PKCS #8 private key" }));
    let folder = TempDir::new().unwrap();
    coordinator(&authority).store(folder.path(), FileNames::Node).unwrap();
    let [leaf, leaf_key] = ["node.crt", "node.key"].map(|name| text(&folder, name));
    assert_eq!(read(&leaf, &leaf_key), Some(Error::NotAuthority));
}

#[test]
fn an_expired_authority_signs_nothing_and_nothing_outlives_it() {
    let authority = authority();
    let end = authority.expires_unix();
    let issue = |now_unix, lifetime_s| {
        authority.issue(&Subject::Coordinator, Validity { now_unix, lifetime_s })
    };

    assert_eq!(issue(NOW, DAY_S).unwrap().expires_unix(), NOW + DAY_S);
    assert_eq!(issue(end - 1, DAY_S).unwrap().expires_unix(), end);
    assert_eq!(issue(NOW, u64::MAX).unwrap().expires_unix(), end);
    assert_eq!(issue(end, DAY_S).err(), Some(Error::AuthorityExpired { expired_unix: end }));
}

#[test]
fn times_that_no_certificate_can_name_are_refused() {
    for now_unix in [u64::MAX, i64::MAX as u64, 253_402_300_800] {
        let error = Authority::create(now_unix).err();
        assert!(matches!(error, Some(Error::Time { .. })), "{now_unix}: {error:?}");
    }
    assert!(Authority::create(0).is_ok());
}

#[test]
fn only_p256_keys_are_signed() {
    let authority = authority();
    let refused = |public_key: &[u8]| {
        let signed = authority.sign(&Subject::Coordinator, public_key, validity());
        matches!(signed, Err(Error::PublicKey { .. }))
    };
    let good = Key::generate().unwrap().public_der();

    assert!(!refused(&good));
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        assert!(refused(&KeyPair::generate_for(algorithm).unwrap().subject_public_key_info()));
    }
    let other_curve = [&good[..20], &[0x22], &good[21..]].concat();
    // As long as a P-256 key, but it says that it is an Ed25519 key.
    let other_kind = [&b"\x30\x59\x30\x05\x06\x03\x2b\x65\x70\x03\x50\x00"[..], &[7; 79]].concat();
    // A point without its second coordinate, which not every TLS library reads.
    let compressed = [&[0x30, 0x39], &good[2..24], &[0x22, 0, 2], &good[27..59]].concat();
    let longer = [&good[..], &[0]].concat();
    for bad in [&[], &good[1..], &[0; 91], &longer, &other_curve, &other_kind, &compressed] {
        assert!(refused(bad), "{bad:02x?}");
    }
}

#[test]
fn no_two_certificates_have_one_serial_number() {
    let authority = authority();
    let key = Key::generate().unwrap().public_der();
    let node = Subject::Node(NodeId(1));
    let later = Validity { now_unix: NOW + 1, ..validity() };
    let serials = [(&node, validity()), (&node, later), (&Subject::Coordinator, validity())].map(
        |(subject, validity)| {
            let certificate = authority.sign(subject, &key, validity).unwrap();
            let (_, parsed) = parse_x509_certificate(&certificate).unwrap();
            assert!(parsed.raw_serial().len() <= 20);
            parsed.serial.to_string()
        },
    );
    assert!(serials[0] != serials[1] && serials[0] != serials[2] && serials[1] != serials[2]);
}

#[test]
fn a_renewed_certificate_keeps_the_key_and_the_id() {
    let authority = authority();
    let key = Key::generate().unwrap();
    let sign = |key: &Key, now_unix| {
        let subject = Subject::Node(key.node_id());
        let validity = Validity { now_unix, lifetime_s: DAY_S };
        authority.sign(&subject, &key.public_der(), validity).unwrap()
    };
    let certificate = sign(&key, NOW);
    let first = Identity::new(key, certificate, authority.certificate().clone()).unwrap();

    let certificate = sign(first.key(), NOW + DAY_S);
    let second = Identity::new(first.key().clone(), certificate, first.authority().clone());

    let second = second.unwrap();
    assert_eq!(second.subject(), first.subject());
    assert_eq!(second.expires_unix(), first.expires_unix() + DAY_S);
}

#[test]
fn a_key_that_was_kept_is_the_same_when_it_is_signed_later() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("made/on/the/way");

    let first = Key::keep(&data, FileNames::Node).unwrap();
    let again = Key::keep(&data, FileNames::Node).unwrap();

    assert_eq!(again.public_der(), first.public_der());
    let unsigned = Identity::load(&data, FileNames::Node).err().unwrap();
    assert!(matches!(unsigned, FileError::Missing { path } if path.ends_with("node.crt")));
    let authority = authority();
    let subject = Subject::Node(again.node_id());
    let certificate = authority.sign(&subject, &again.public_der(), validity()).unwrap();
    let identity = Identity::new(again, certificate, authority.certificate().clone()).unwrap();
    identity.store(&data, FileNames::Node).unwrap();
    assert_eq!(Identity::load(&data, FileNames::Node).unwrap().subject(), &subject);
}

#[test]
fn a_certificate_whose_key_is_lost_goes_when_another_key_is_kept() {
    let folder = TempDir::new().unwrap();
    coordinator(&authority()).store(folder.path(), FileNames::Node).unwrap();
    fs::remove_file(folder.path().join("node.key")).unwrap();

    Key::keep(folder.path(), FileNames::Node).unwrap();

    let unsigned = Identity::load(folder.path(), FileNames::Node).err().unwrap();
    assert!(matches!(unsigned, FileError::Missing { path } if path.ends_with("node.crt")));
}

#[test]
fn an_identity_is_read_back_from_its_files() {
    let folder = TempDir::new().unwrap();
    let inner = folder.path().join("made/on/the/way");
    let authority = authority();
    let client = Subject::Client("lab".parse().unwrap());
    for (subject, names, found) in [
        (Subject::Node(NodeId(1)), FileNames::Node, ["ca.crt", "node.crt", "node.key"]),
        (client, FileNames::Client, ["ca.crt", "client.crt", "client.key"]),
    ] {
        let inner = inner.join(found[2]);
        let identity = authority.issue(&subject, validity()).unwrap();
        identity.store(&inner, names).unwrap();

        let read = Identity::load(&inner, names).unwrap();

        assert_eq!(read.subject(), &subject);
        assert_eq!(read.expires_unix(), identity.expires_unix());
        assert_eq!(read.fingerprint(), authority.fingerprint());
        assert_eq!(read.key().public_der(), identity.key().public_der());
        let mut files: Vec<_> =
            fs::read_dir(&inner).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, found);
    }
}

#[cfg(unix)]
#[test]
fn private_keys_are_their_owners_and_refused_otherwise() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let authority = authority();
    authority.store(folder.path()).unwrap();
    coordinator(&authority).store(folder.path(), FileNames::Node).unwrap();
    for name in ["node.key", "ca.key"] {
        let path = folder.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }

    let errors = [
        Identity::load(folder.path(), FileNames::Node).err().unwrap(),
        Authority::load(folder.path()).err().unwrap(),
    ];

    for (error, name) in errors.iter().zip(["node.key", "ca.key"]) {
        let is_of =
            matches!(error, FileError::Exposed { path, mode: 0o640 } if path.ends_with(name));
        assert!(is_of, "{error}");
    }
}

#[test]
fn whatever_is_wrong_with_a_file_names_it() {
    let (cluster, other) = (authority(), authority());
    let foreign = TempDir::new().unwrap();
    other.store(foreign.path()).unwrap();
    coordinator(&other).store(foreign.path(), FileNames::Node).unwrap();
    let load = |name: &str, spoil: &dyn Fn(&Path)| {
        let folder = TempDir::new().unwrap();
        coordinator(&cluster).store(folder.path(), FileNames::Node).unwrap();
        spoil(&folder.path().join(name));
        Identity::load(folder.path(), FileNames::Node).err().unwrap()
    };
    for name in ["node.key", "node.crt", "ca.crt"] {
        let missing = load(name, &|path| fs::remove_file(path).unwrap());
        assert!(
            matches!(&missing, FileError::Missing { path } if path.ends_with(name)),
            "{missing}"
        );

        let garbage = load(name, &|path| write_secret_file(path, "garbage").unwrap());
        let is_of = |error: &Error| matches!(error, Error::Pem { .. });
        assert!(is_invalid(&garbage, name, is_of), "{garbage}");
    }

    let swapped =
        |name| load(name, &|path| write_secret_file(path, &text(&foreign, name)).unwrap());
    assert!(is_invalid(&swapped("node.key"), "node.key", |error| *error == Error::KeyMismatch));
    for name in ["node.crt", "ca.crt"] {
        let is_of = |error: &Error| matches!(error, Error::Foreign { .. });
        assert!(is_invalid(&swapped(name), "node.crt", is_of), "{name}");
    }
    let leaf =
        load("ca.crt", &|path| write_secret_file(path, &text(&foreign, "node.crt")).unwrap());
    assert!(is_invalid(&leaf, "ca.crt", |error| *error == Error::NotAuthority), "{leaf}");
}

#[test]
fn a_certificate_that_names_nobody_or_two_is_refused() {
    let key = KeyPair::generate().unwrap();
    let named = |uris: &[&str]| {
        let mut params = CertificateParams::default();
        let uris = uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names = uris.collect();
        peer(&[params.self_signed(&key).unwrap().der().clone()])
    };
    let (node, coordinator) = (Subject::Node(NodeId(1)).to_string(), "filmloom://coordinator");

    assert_eq!(named(&[&node]), Ok(Some(Subject::Node(NodeId(1)))));
    assert_eq!(named(&["https://example.org", coordinator]), Ok(Some(Subject::Coordinator)));
    assert_eq!(named(&[]), Err(Error::Subjects { found: 0 }));
    assert_eq!(named(&["https://example.org"]), Err(Error::Subjects { found: 0 }));
    assert_eq!(named(&[&node, coordinator]), Err(Error::Subjects { found: 2 }));
    assert!(matches!(named(&["filmloom://root"]), Err(Error::Subject(_))));
    assert_eq!(peer(&[]), Ok(None));
}

#[test]
fn debug_output_holds_no_private_key() {
    let authority = authority();
    let folder = TempDir::new().unwrap();
    let identity = coordinator(&authority);
    identity.store(folder.path(), FileNames::Node).unwrap();
    for (shown, pem) in [
        (format!("{identity:?}"), text(&folder, "node.key")),
        (format!("{authority:?}"), authority.key_pem()),
    ] {
        // In PKCS #8 the private number of a P-256 key is in bytes 36 to 68.
        let pair = KeyPair::from_pem(&pem).unwrap();
        let numbers = format!("{:?}", &pair.serialized_der()[36..68]);
        let digits: String =
            pair.serialized_der()[36..68].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(numbers.trim_matches(['[', ']'])) && !shown.contains(&digits));
    }
}

proptest! {
    #[test]
    fn damaged_certificates_are_no_panic(
        place: Index,
        bytes in vec(any::<u8>(), 0..8),
        cut: Index,
    ) {
        let key = Key::generate().unwrap();
        let signed = authority().sign(&Subject::Node(NodeId(1)), &key.public_der(), validity());
        let mut der = signed.unwrap().to_vec();
        let place = place.index(der.len());
        for (old, new) in der[place..].iter_mut().zip(&bytes) {
            *old = *new;
        }
        let damaged = CertificateDer::from(der.clone());
        // A bit that no one reads may change: it is still somebody's, not another's.
        if let Ok(found) = peer(&[damaged]) {
            prop_assert!(found.is_some());
        }
        der.truncate(cut.index(der.len()));
        prop_assert!(peer(&[CertificateDer::from(der)]).is_err());
    }

    #[test]
    fn no_public_key_is_a_panic(place in 0..91_usize, byte: u8) {
        let authority = authority();
        let mut key = Key::generate().unwrap().public_der();
        key[place] = byte;
        let _ = authority.sign(&Subject::Coordinator, &key, validity());
    }
}

fn is_invalid(error: &FileError, name: &str, is_it: impl Fn(&Error) -> bool) -> bool {
    matches!(error, FileError::Invalid { path, source } if path.ends_with(name) && is_it(source))
}

fn text(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

fn authority() -> Authority {
    Authority::create(NOW).unwrap()
}

fn validity() -> Validity {
    Validity { now_unix: NOW, lifetime_s: DAY_S }
}

fn coordinator(cluster: &Authority) -> Identity {
    cluster.issue(&Subject::Coordinator, validity()).unwrap()
}
