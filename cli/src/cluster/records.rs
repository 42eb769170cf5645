//! Where `serve` keeps its records: what the command line says, checked.

use coordinator::State;

use super::{ServeArgs, args::EtcdArgs};
use crate::failure::Failure;

/// Where records are kept.
///
/// # Errors
///
/// [`Failure::Input`] if that is none of ours, or TLS lacks something or is not asked
/// for.
pub(super) fn state(args: &ServeArgs) -> Result<State, Failure> {
    let Some(store) = &args.store else {
        return match given(&args.etcd) {
            None => Ok(State::File),
            Some(option) => Err(Failure::Input(format!(
                "{option} is for records in etcd: give --store etcd:https://HOST:PORT"
            ))),
        };
    };
    #[cfg(feature = "etcd")]
    if let Some(endpoints) = store.strip_prefix("etcd:") {
        let endpoints: Vec<_> = endpoints.split(',').map(str::to_owned).collect();
        let tls = etcd::tls(store, &endpoints, &args.etcd)?;
        return Ok(State::Etcd { endpoints, cluster: args.cluster.clone(), tls });
    }
    let built = if cfg!(feature = "etcd") { "" } else { " (this filmloom was built without etcd)" };
    Err(Failure::Input(format!("--store {store}: give etcd:http://HOST:PORT{built}")))
}

/// The first of etcd's options that was given.
fn given(args: &EtcdArgs) -> Option<&'static str> {
    let EtcdArgs { etcd_cacert, etcd_cert, etcd_key } = args;
    let options =
        [("--etcd-cacert", etcd_cacert), ("--etcd-cert", etcd_cert), ("--etcd-key", etcd_key)];
    options.into_iter().find(|(_, file)| file.is_some()).map(|(option, _)| option)
}

#[cfg(feature = "etcd")]
mod etcd {
    use std::{fs, path::Path};

    use coordinator::EtcdTls;

    use super::{EtcdArgs, Failure, given};

    /// What TLS needs: for addresses that are all https, and for no others.
    pub(super) fn tls(
        store: &str,
        endpoints: &[String],
        args: &EtcdArgs,
    ) -> Result<Option<EtcdTls>, Failure> {
        let refused = |why: &str| Err(Failure::Input(format!("--store {store}: {why}")));
        let encrypted = endpoints.iter().filter(|address| address.starts_with("https://")).count();
        match (encrypted, given(args), &args.etcd_cacert) {
            (0, None, _) => Ok(None),
            (0, Some(option), _) => {
                refused(&format!("http is not encrypted: give https, or no {option}"))
            }
            (count, _, _) if count < endpoints.len() => {
                refused("give https for all addresses, or for none")
            }
            (_, _, None) => {
                refused("for https give --etcd-cacert FILE, who signed etcd's certificate")
            }
            (_, _, Some(ca)) => read(ca, args).map(Some),
        }
    }

    fn read(ca: &Path, args: &EtcdArgs) -> Result<EtcdTls, Failure> {
        let ca_pem = pem("--etcd-cacert", ca)?;
        let client_pem = match (&args.etcd_cert, &args.etcd_key) {
            (Some(certificate), Some(key)) => {
                Some((pem("--etcd-cert", certificate)?, pem("--etcd-key", key)?))
            }
            (Some(_), None) | (None, Some(_) | None) => None,
        };
        Ok(EtcdTls { ca_pem, client_pem })
    }

    /// A file that looks like PEM: others are found when they are used.
    fn pem(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
        let refused = |why: String| Failure::Input(format!("{option} {}: {why}", path.display()));
        let content = fs::read(path).map_err(|error| refused(error.to_string()))?;
        let is_pem = content.windows(BEGIN.len()).any(|part| part == BEGIN);
        is_pem.then_some(content).ok_or_else(|| refused("this is no PEM file".to_owned()))
    }

    const BEGIN: &[u8] = b"-----BEGIN ";
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn problem(arguments: &[&str]) -> String {
        let line = Line::try_parse_from(["serve"].iter().chain(arguments)).map(|line| line.serve);
        match line.map(|args| state(&args)) {
            Ok(state) => state.unwrap_err().line().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn tls_of_etcd_without_etcd_and_a_certificate_without_its_key_are_refused() {
        let lost = problem(&["--etcd-cacert", "ca.pem"]);
        assert!(lost.contains("--etcd-cacert is for records in etcd"), "{lost}");
        let lost = problem(&["--store", "etcd:https://a:1", "--etcd-cert", "c.pem"]);
        assert!(lost.contains("--etcd-key"), "{lost}");
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn addresses_of_etcd_that_contradict_its_options_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        std::fs::write(&text, "hello").unwrap();
        let text = text.to_str().unwrap();
        for (store, file, said) in [
            ("etcd:http://a:1", Some("ca.pem"), "give https, or no --etcd-cacert"),
            ("etcd:https://a:1,http://b:1", Some("ca.pem"), "give https for all addresses"),
            ("etcd:https://a:1", None, "for https give --etcd-cacert"),
            ("etcd:https://a:1", Some("/nowhere/ca.pem"), "--etcd-cacert /nowhere/ca.pem: No such"),
            ("etcd:https://a:1", Some(text), "this is no PEM file"),
        ] {
            let ca = file.map_or(Vec::new(), |file| vec!["--etcd-cacert", file]);
            let problem = problem(&[&["--store", store][..], &ca].concat());
            assert!(problem.contains(said), "{problem}");
        }
    }
}
