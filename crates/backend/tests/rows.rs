//! Row-wise operations and frames against plain f64 versions, and against
//! themselves on other instruction sets and thread counts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use backend::{
    Backend, Cpu, Dtype, PatchGrid, ScaleShift, Tensor, cpu::level::Level, philox::Draw,
};

use support::{check, wave, wide};

#[test]
fn norms_match() {
    let (rows, n, frames) = (15, 50, 3);
    let (x, table, weight) = (wave(rows * n, 1), wave(frames * 4 * n, 2), wave(n, 3));
    let row = |i: usize| &x[i / n * n..][..n];
    let normal = |i: usize| {
        let mean = row(i).iter().map(|&x| wide(x)).sum::<f64>() / n as f64;
        let variance = row(i).iter().map(|&x| (wide(x) - mean).powi(2)).sum::<f64>() / n as f64;
        (wide(x[i]) - mean) / (variance + 1e-6).sqrt()
    };
    let slot = |i: usize, slot: usize| wide(table[i / n / 5 * 4 * n + slot * n + i % n]);
    let exact: Vec<f64> =
        (0..rows * n).map(|i| normal(i) * (1.0 + slot(i, 3)) + slot(i, 1)).collect();
    check(&exact, |cpu| {
        let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
        let table = cpu.upload(frames, 4 * n, &table, Dtype::F32).unwrap();
        let mut out = cpu.zeros(rows, n, cpu.class().activation()).unwrap();
        let modulated = ScaleShift::Modulated { table: &table, shift: 1, scale: 3 };
        cpu.layer_norm(&input, modulated, 1e-6, &mut out);
        out
    });
    // The first 40 columns are normed, the rest copied, three rows down.
    let mut exact = vec![0.0; (rows + 3) * n];
    for i in 0..rows * n {
        let square = row(i)[..40].iter().map(|&x| wide(x).powi(2)).sum::<f64>() / 40.0;
        let scale = wide(weight[i % n]) / (square + 1e-6).sqrt();
        exact[i + 3 * n] = wide(x[i]) * if i % n < 40 { scale } else { 1.0 };
    }
    check(&exact, |cpu| {
        let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
        let weight = cpu.upload(1, 40, &weight[..40], Dtype::F32).unwrap();
        let mut out = cpu.zeros(rows + 3, n, cpu.class().activation()).unwrap();
        cpu.rms_norm(&input, &weight, 1e-6, &mut out, 3);
        out
    });
}

#[test]
fn an_affine_norm_and_silu_match_in_every_output_type() {
    let (rows, n) = (21, 37);
    let (x, weight, bias) = (wave(rows * n, 1), wave(n, 2), wave(n, 3));
    let normal = |i: usize| {
        let row = &x[i / n * n..][..n];
        let mean = row.iter().map(|&x| wide(x)).sum::<f64>() / n as f64;
        let variance = row.iter().map(|&x| (wide(x) - mean).powi(2)).sum::<f64>() / n as f64;
        (wide(x[i]) - mean) / (variance + 1e-5).sqrt()
    };
    let affine: Vec<f64> =
        (0..rows * n).map(|i| normal(i) * wide(weight[i % n]) + wide(bias[i % n])).collect();
    let silu: Vec<f64> = x.iter().map(|&x| wide(x) / (1.0 + (-wide(x)).exp())).collect();
    for rounded in [false, true] {
        let dtype = |cpu: &Cpu| if rounded { cpu.class().activation() } else { Dtype::F32 };
        check(&affine, |cpu| {
            let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
            let weight = cpu.upload(1, n, &weight, Dtype::F32).unwrap();
            let bias = cpu.upload(1, n, &bias, Dtype::F32).unwrap();
            let mut out = cpu.zeros(rows, n, dtype(cpu)).unwrap();
            let affine = ScaleShift::Affine { weight: &weight, bias: &bias };
            cpu.layer_norm(&input, affine, 1e-5, &mut out);
            out
        });
        check(&silu, |cpu| {
            let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
            let mut out = cpu.zeros(rows, n, dtype(cpu)).unwrap();
            cpu.silu(&input, &mut out);
            out
        });
    }
}

#[test]
fn a_row_is_added_to_whole_tables_and_to_repeated_ones() {
    let (frames, n) = (5, 42);
    let base = wave(n, 1);
    for narrow in [n, 14] {
        let table = wave(frames * narrow, 2);
        let exact: Vec<f64> = (0..frames * n)
            .map(|i| wide(base[i % n]) + wide(table[i / n * narrow + i % n % narrow]))
            .collect();
        check(&exact, |cpu| {
            let table = cpu.upload(frames, narrow, &table, Dtype::F32).unwrap();
            let base = cpu.upload(1, n, &base, Dtype::F32).unwrap();
            let mut out = cpu.zeros(frames, n, Dtype::F32).unwrap();
            cpu.add_row(&table, &base, &mut out);
            out
        });
    }
}

#[test]
fn blending_matches_beyond_one_task() {
    let (rows, n) = (3, 3001);
    let (x, y) = (wave(rows * n, 1), wave(rows * n, 2));
    let exact: Vec<f64> = x.iter().zip(&y).map(|(&x, &y)| 0.25 * wide(x) - 1.5 * wide(y)).collect();
    check(&exact, |cpu| {
        let mut x = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
        let y = cpu.upload(rows, n, &y, Dtype::F32).unwrap();
        cpu.blend(0.25, &mut x, -1.5, &y);
        x
    });
}

#[test]
fn noise_is_the_draws_normals_in_order_on_every_device() {
    let draw = Draw { seed: 5, chunk: 2, step: 1, domain: 0 };
    let exact: Vec<f64> = (0..3001).flat_map(|group| draw.normals(group)).map(wide).collect();
    for len in [1, 4095, 12_001] {
        check(&exact[..len], |cpu| {
            let mut out = cpu.zeros(1, len, Dtype::F32).unwrap();
            cpu.noise(draw, &mut out);
            out
        });
    }
}

#[test]
fn copied_rows_are_converted_and_the_residual_is_rounded_by_class() {
    let values: Vec<f32> = (0..27 * 11).map(|i| (i as f32 - 99.3) / 7.0).collect();
    let devices = Cpu::classes().map(|class| Cpu::new(class, 2).unwrap());
    for cpu in devices.chain([Cpu::f32_at(1, Level::Portable)]) {
        let x = cpu.upload(27, 11, &values, Dtype::F32).unwrap();
        let rounded = cpu.upload(27, 11, &values, Dtype::Bf16).unwrap();
        let rounded = cpu.download(&rounded).unwrap();

        let mut narrow = cpu.zeros(30, 11, Dtype::Bf16).unwrap();
        cpu.copy_rows(&x, &mut narrow, 3);
        let mut wide = cpu.zeros(31, 11, Dtype::F32).unwrap();
        cpu.copy_rows(&narrow, &mut wide, 1);
        let mut residual = cpu.upload(27, 11, &values, Dtype::F32).unwrap();
        cpu.round_residual(&mut residual);

        let copied = cpu.download(&wide).unwrap();
        assert!(copied[..4 * 11].iter().all(|&x| x == 0.0), "rows before the first are kept");
        assert_eq!(copied[4 * 11..], rounded);
        let is_rounded = cpu.class().activation() == Dtype::Bf16;
        let expected = if is_rounded { &rounded } else { &values };
        assert_eq!(cpu.download(&residual).unwrap(), *expected, "{}", cpu.class().name());
        assert_eq!(residual.dtype(), Dtype::F32);
    }
}

#[test]
fn patches_come_back_and_stand_in_the_documented_order() {
    let cpu = Cpu::f32(1);
    let grid =
        PatchGrid { channels: 2, frames: 2, rows: 2, columns: 3, patch_rows: 2, patch_columns: 2 };
    let values: Vec<f32> = (0..96).map(|i| i as f32).collect();
    let frames = cpu.upload(2, 48, &values, Dtype::F32).unwrap();
    let mut patches = cpu.zeros(12, 8, Dtype::F32).unwrap();
    cpu.patchify(&frames, grid, &mut patches);
    let patched = cpu.download(&patches).unwrap();
    // Token 1 of frame 0 starts at column 2; channel 1 follows channel 0.
    assert_eq!(patched[8..16], [2.0, 3.0, 8.0, 9.0, 50.0, 51.0, 56.0, 57.0]);

    // The head's order is (row, column, channel).
    let head: Vec<f32> = patched
        .chunks_exact(8)
        .flat_map(|patch| (0..8).map(|i| patch[i % 2 * 4 + i / 2]))
        .collect();
    let head = cpu.upload(12, 8, &head, Dtype::F32).unwrap();
    let mut back = cpu.zeros(2, 48, Dtype::F32).unwrap();
    cpu.unpatchify(&head, grid, &mut back);
    assert_eq!(cpu.download(&back).unwrap(), values);
}

#[test]
fn rows_come_back_byte_for_byte() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let cpu = Cpu::f32(1);
        let from = cpu.upload(9, 5, &wave(45, 1), dtype).unwrap();
        let bytes = cpu.read_rows(&from, 2..7).unwrap();
        assert_eq!(bytes.len(), 5 * 5 * dtype.bytes());
        let mut to = cpu.zeros(9, 5, dtype).unwrap();
        cpu.write_rows(&mut to, 4, &bytes);
        assert_eq!(cpu.read_rows(&to, 4..9).unwrap(), bytes);
    }
}
