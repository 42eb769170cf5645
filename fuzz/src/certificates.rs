//! Join tokens, certificates, and the records of tokens.

use identity::{Fingerprint, Identity, JoinToken, Subject, Terms, TokenRecord, Validity};

use crate::{
    Target,
    control::{NOW_UNIX, authority},
    mutate::Shape,
};

/// A join token, as a worker is told it and shows it; and the record of one.
pub(crate) const TOKEN: Target = Target {
    name: "token",
    shape: Shape::Bytes,
    decode: token,
    seeds: || {
        let token = JoinToken::create(authority().0.fingerprint()).expect("random numbers");
        let terms = Terms { created_unix: NOW_UNIX, uses: Some(3), expires_unix: Some(NOW_UNIX) };
        let record = TokenRecord::new(&token, terms);
        let record = serde_json::to_vec(&record).expect("a record has a text");
        let fingerprint = token.fingerprint.to_string().into_bytes();
        vec![token.to_string().into_bytes(), record, fingerprint]
    },
    input_bytes_max: 16 << 10,
    held_bytes: 8 << 10,
    held_per_byte: 8,
    cases: 10_000,
};

/// A certificate: whom it names, and whether it makes an identity.
pub(crate) const CERTIFICATE: Target = Target {
    name: "certificate",
    shape: Shape::Bytes,
    decode: certificate,
    seeds: || {
        let (authority, key) = authority();
        let validity = Validity { now_unix: NOW_UNIX, lifetime_s: 3600 };
        let client = Subject::Client("lab".parse().expect("a client's name"));
        let sign = |subject: &Subject| {
            let signed = authority.sign(subject, &key.public_der(), validity);
            signed.expect("the key is one").to_vec()
        };
        vec![sign(&Subject::Node(key.node_id())), sign(&Subject::Coordinator), sign(&client)]
    },
    input_bytes_max: 16 << 10,
    held_bytes: 32 << 10,
    held_per_byte: 16,
    cases: 12_000,
};

fn token(bytes: &[u8]) -> Result<(), String> {
    let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let fingerprint = text.parse::<Fingerprint>().map(drop).map_err(|error| error.to_string());
    let record = serde_json::from_slice::<TokenRecord>(bytes);
    let record = record.map(drop).map_err(|error| error.to_string());
    let parsed = text.parse::<JoinToken>().map_err(|error| error.to_string());
    let parsed = parsed.map(|token| {
        // One token has one text.
        assert_eq!(token.to_string(), text.trim());
    });
    parsed.or(record).or(fingerprint)
}

fn certificate(bytes: &[u8]) -> Result<(), String> {
    let (authority, key) = authority();
    let certificate = rustls::pki_types::CertificateDer::from(bytes.to_vec());
    let root = authority.certificate().clone();
    drop(Identity::new(key.clone(), certificate.clone(), root));
    // And as an authority that signed another one.
    drop(Identity::new(key.clone(), authority.certificate().clone(), certificate.clone()));
    let subject = identity::peer(&[certificate]).map_err(|error| error.to_string())?;
    let subject = subject.ok_or("there is one certificate")?;
    assert_eq!(subject.to_string().parse(), Ok(subject));
    Ok(())
}
