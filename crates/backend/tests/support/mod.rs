//! A kernel against its formula, on every class of this machine.

use backend::{
    Backend, Cpu, Dtype,
    cpu::{Matrix, level::Level},
};

/// Backends whose results must be the same to the bit.
fn f32_family() -> Vec<Cpu> {
    let levels = [Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];
    let others = levels.into_iter().map(|level| Cpu::f32_at(1, level));
    [Cpu::f32_at(1, Level::Portable), Cpu::f32(3)].into_iter().chain(others).collect()
}

/// Runs `f` on every backend of the f32 class; all must agree exactly with the
/// first, which must be close to `exact`. Then in bf16, within its precision.
pub(crate) fn check(exact: &[f64], f: impl Fn(&Cpu) -> Matrix) {
    let family = f32_family();
    let first = family[0].download(&f(&family[0])).unwrap();
    for cpu in &family[1..] {
        assert_eq!(cpu.download(&f(cpu)).unwrap(), first, "{:?} x{}", cpu.level(), cpu.threads());
    }
    assert!(distance(&first, exact) < 2e-6, "f32 is off by {}", distance(&first, exact));
    for class in Cpu::classes().filter(|class| class.activation() == Dtype::Bf16) {
        let cpu = Cpu::new(class, 2).unwrap();
        let rounded = cpu.download(&f(&cpu)).unwrap();
        let distance = distance(&rounded, exact);
        assert!(distance < 1.5e-2, "{} is off by {distance}", class.name());
        let alone = Cpu::new(class, 1).unwrap();
        assert_eq!(alone.download(&f(&alone)).unwrap(), rounded, "{} alone", class.name());
    }
}

fn distance(x: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(x.len(), exact.len());
    let error: f64 = x.iter().zip(exact).map(|(&x, e)| (f64::from(x) - e).powi(2)).sum();
    (error / exact.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

/// Values in [-1, 1] that bf16 holds exactly, so that both classes start alike.
pub(crate) fn wave(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 251) as f32 / 128.0 - 0.976_562_5).collect()
}

pub(crate) fn wide(x: f32) -> f64 {
    f64::from(x)
}
