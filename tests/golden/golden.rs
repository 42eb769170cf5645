//! The model against numbers from PyTorch, diffusers and transformers.
//!
//! Every folder under `cases` is one case; `README.md` says what each pins and
//! how the numbers were made. A case runs in every numeric class that this
//! machine offers and that its widths allow.

mod case;
mod parts;

use std::{path::Path, sync::Arc};

use backend::{Cpu, Dtype};
use case::{Case, Part};

#[test]
fn every_part_matches_its_reference_in_the_f32_class() {
    let cpu = Arc::new(Cpu::f32(2));
    let failures =
        run_all(|case| parts::check(&cpu, case, case.tolerance.f32, case::Measure::Strict));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_part_is_close_to_its_reference_in_every_bf16_class() {
    let classes = Cpu::classes().filter(|class| class.activation() == Dtype::Bf16);
    for class in classes {
        let failures = bf16_failures(Arc::new(Cpu::new(class, 2).expect("an offered class")));
        assert!(failures.is_empty(), "{}: {}", class.name(), failures.join("\n"));
    }
}

fn bf16_failures(cpu: Arc<Cpu>) -> Vec<String> {
    run_all(|case| {
        let tolerance = match case.part {
            Part::Vae | Part::Pipeline => BF16_PICTURES,
            Part::Transformer => BF16_VELOCITY,
            Part::Text | Part::Noise => case.tolerance.bf16,
        };
        match parts::check(&cpu, case, tolerance, case::Measure::Norm) {
            // The class has no odd widths; that it says so is the result.
            Err(problem) if problem.contains("even width") => Ok(()),
            other => other,
        }
    })
}

/// How far decoded pictures may be from the reference in bf16. Random decoders
/// have no reason to be robust: they carry a rounding of 2^-9 through a dozen
/// convolutions to pictures that are up to 6 % off.
const BF16_PICTURES: f64 = 0.1;

/// How far a velocity may be from the reference in bf16, by norm. PyTorch's own
/// bf16 is up to 1 % off on the embedded model (`bench/pytorch/chunk.py`).
const BF16_VELOCITY: f64 = 0.02;

/// Runs every case; the failures, each as a line.
fn run_all(check: impl Fn(&Case) -> Result<(), String>) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("the cases are part of the repository")
        .map(|entry| entry.expect("a folder entry").path())
        .collect();
    names.sort();
    let cases: Vec<Case> = names.iter().map(|path| Case::read(path)).collect();
    assert!(cases.len() > 40, "only {} cases were found", cases.len());
    for part in [Part::Text, Part::Transformer, Part::Vae, Part::Pipeline, Part::Noise] {
        assert!(cases.iter().any(|case| case.part == part), "no case for {part:?}");
    }
    let line = |case: &Case| check(case).err().map(|problem| format!("{}: {problem}", case.name));
    cases.iter().filter_map(line).collect()
}
