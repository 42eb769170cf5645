//! What a numeric class means, to the bit: digests of every operation's result.
//!
//! A seeded probe runs each operation of the seam on shapes with odd edges and
//! hashes the bytes that come out. The table below is version 1 of the classes.
//! With other digests films differ from those made before, and pages are not fit
//! to be exchanged: that is another version, named in the changelog, and never
//! comes with a mere speed-up.
//!
//! The column of `cpu-f32` holds on every processor, of `cpu-bf16-avx512` and
//! `cpu-bf16-amx` on every processor that has the instructions. The two were
//! written down, and only ever run, on an Intel server with AMX (Sapphire Rapids
//! class); an AMD processor has yet to confirm `cpu-bf16-avx512`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::Range;

use backend::{
    Activation, Backend, Class, ConvKind, Cpu, Dtype, Epilogue, FinishQueries, Grid, Heads, Keys,
    MlaPath, MlaShape, PatchGrid, ScaleShift, Tensor, Weight,
    cpu::{Matrix, level::Level},
    philox::Draw,
};
use types::{Axis, Positions, Rope};

/// Operation, and its digests in `cpu-f32`, `cpu-bf16-avx512` and `cpu-bf16-amx`.
/// The last two often agree where f32 sums are rounded to bf16 before they are seen.
const DIGESTS: [(&str, [u64; 3]); 16] = [
    ("noise", [0xb8ca_0f8e_43c4_9b2e, 0xb8ca_0f8e_43c4_9b2e, 0xb8ca_0f8e_43c4_9b2e]),
    ("copies and rounding", [0xae5b_821f_683d_a00d, 0x3bdc_9d79_ebd6_1501, 0x3bdc_9d79_ebd6_1501]),
    ("linear", [0x37dd_089b_5936_6123, 0x6b11_1ea0_1a59_330f, 0xf26f_724d_c172_72e0]),
    ("rows", [0x8ada_b729_7228_24f6, 0x6e3f_18f5_912a_87b5, 0x6e3f_18f5_912a_87b5]),
    ("queries", [0xe7dd_5fde_fcf0_0091, 0x253f_cf95_be44_a3b2, 0x253f_cf95_be44_a3b2]),
    ("dense attention", [0xf2b8_e2ad_eb33_a867, 0xec28_42dd_705c_ea32, 0x04e3_b3e0_8838_68f3]),
    ("rebuilt latents", [0x6e7f_6445_51d2_b156, 0x6d19_655b_a706_9430, 0x6d19_655b_a706_9430]),
    ("absorbed latents", [0x0cb1_05cc_57f1_010c, 0x5bf3_f040_89f1_c6fd, 0x5bf3_f040_89f1_c6fd]),
    ("biased attention", [0x5e2d_77d2_7856_c93b, 0xd8c2_f8c1_e8ec_2c2a, 0xd8c2_f8c1_e8ec_2c2a]),
    ("patches", [0x5c4e_eb3d_5b2c_dbfd, 0x2270_8a8e_27b6_9209, 0x2270_8a8e_27b6_9209]),
    ("causal convolution", [0x4aee_f1c2_4fc1_1206, 0x0e35_4b21_3c8b_c1de, 0x5219_8fa9_7b9c_f8f9]),
    ("its narrow kernel", [0x1be1_5fba_2452_6fcc, 0xd6e5_df9e_72e3_2af0, 0x316a_f50d_ac29_621c]),
    ("its wide kernel", [0x9693_a5ae_c4b4_4c8d, 0x7df0_722b_8f26_09ea, 0x9beb_0d84_bfd6_a841]),
    ("doubling in time", [0xe406_fd5e_07a2_c65d, 0xf2ca_92b7_e07f_a699, 0xa968_df49_051f_407b]),
    ("doubling in space", [0x5945_b972_8363_92c4, 0x3491_0680_cbf8_e27e, 0xe829_5f0b_f0f0_560f]),
    ("pictures", [0x7c6a_9d2f_7512_0601, 0x7c6a_9d2f_7512_0601, 0x7c6a_9d2f_7512_0601]),
];

#[test]
fn every_class_gives_the_bits_it_is_known_for() {
    for class in Cpu::classes() {
        check(&Cpu::new(class, 2).unwrap());
    }
    let levels = [Level::Portable, Level::Avx2, Level::Avx512, Level::Avx512Bf16];
    levels.into_iter().for_each(|level| check(&Cpu::f32_at(1, level)));
}

fn check(cpu: &Cpu) {
    let column = match cpu.class() {
        Class::CpuF32 => 0,
        Class::CpuBf16Avx512 => 1,
        Class::CpuBf16Amx => 2,
    };
    let found = Probe { cpu }.run();
    let known: Vec<_> = DIGESTS.iter().map(|(name, digests)| (*name, digests[column])).collect();
    assert!(
        found == known,
        "bits of {} at {:?}: {}",
        cpu.class().name(),
        cpu.level(),
        found
            .iter()
            .map(|(name, digest)| format!("\n  {name}: {digest:#018x}"))
            .collect::<String>()
    );
}

/// Every operation on one device.
struct Probe<'a> {
    cpu: &'a Cpu,
}

impl Probe<'_> {
    fn run(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("noise", self.noise()),
            ("copies and rounding", self.copies()),
            ("linear", self.linear()),
            ("rows", self.rows()),
            ("queries", self.queries()),
            ("dense attention", self.dense()),
            ("rebuilt latents", self.latent(MlaPath::Rebuild)),
            ("absorbed latents", self.latent(MlaPath::Absorb)),
            ("biased attention", self.biased()),
            ("patches", self.patches()),
            ("causal convolution", self.conv(ConvKind::Causal3, [5, 13, 12, 5])),
            ("its narrow kernel", self.conv(ConvKind::Causal3, [4, 9, 16, 3])),
            ("its wide kernel", self.conv(ConvKind::Causal3, [3, 7, 16, 48])),
            ("doubling in time", self.conv(ConvKind::DoubleTime, [3, 5, 14, 22])),
            ("doubling in space", self.conv(ConvKind::DoubleSpace, [3, 5, 18, 33])),
            ("pictures", self.pictures()),
        ]
    }

    fn noise(&self) -> u64 {
        self.digest(&[&self.values(3, 1231, 1), &self.values(1, 2, 2)])
    }

    fn copies(&self) -> u64 {
        let x = self.values(7, 19, 3);
        let mut narrow = self.zeros(9, 19, Dtype::Bf16);
        self.cpu.copy_rows(&x, &mut narrow, 1);
        let mut wide = self.zeros(9, 19, Dtype::F32);
        self.cpu.copy_rows(&narrow, &mut wide, 0);
        let (mut residual, y) = (self.values(7, 19, 4), self.values(7, 19, 5));
        self.cpu.round_residual(&mut residual);
        let mut blended = self.values(7, 19, 6);
        self.cpu.blend(0.3, &mut blended, -1.7, &y);
        self.digest(&[&narrow, &wide, &residual, &blended])
    }

    fn linear(&self) -> u64 {
        let (rows, n) = (30, 75);
        let gates = self.values(3, 2 * n, 8);
        let factor = self.values(rows, n, 9);
        let mut digest = Digest::new();
        for (k, dtype) in [(46, self.activation()), (384, self.activation()), (45, Dtype::F32)] {
            let x = self.activations(rows, k, 10, dtype);
            let weight = self.host(n, k, 11);
            let weight = Weight { n, k, values: &weight };
            let bias = self.host(1, n, 12);
            let layer = self.cpu.load_linear(weight, Some(&bias), dtype).unwrap();
            let rounded = [Epilogue::Store, Epilogue::Gelu, Epilogue::Silu, Epilogue::Mul(&factor)];
            for epilogue in rounded {
                let mut out = self.zeros(rows, n, self.activation());
                self.cpu.linear(&x, &layer, epilogue, &mut out);
                digest.take(self.cpu, &out);
            }
            for epilogue in
                [Epilogue::Store, Epilogue::Add, Epilogue::AddGated { table: &gates, slot: 1 }]
            {
                let mut out = self.values(rows, n, 13);
                self.cpu.linear(&x, &layer, epilogue, &mut out);
                digest.take(self.cpu, &out);
            }
        }
        digest.0
    }

    fn rows(&self) -> u64 {
        let (rows, n) = (20, 53);
        let x = self.values(rows, n, 14);
        let (weight, bias) = (self.values(1, n, 15), self.values(1, n, 16));
        let table = self.values(4, 3 * n, 17);
        let [mut affine, mut modulated, mut silu, mut normed] =
            [(); 4].map(|()| self.zeros(rows, n, self.activation()));
        let scale_shift = ScaleShift::Affine { weight: &weight, bias: &bias };
        self.cpu.layer_norm(&x, scale_shift, 1e-6, &mut affine);
        let scale_shift = ScaleShift::Modulated { table: &table, shift: 0, scale: 2 };
        self.cpu.layer_norm(&x, scale_shift, 1e-6, &mut modulated);
        self.cpu.silu(&x, &mut silu);
        self.cpu.channel_norm(&x, &weight, &mut normed);
        let mut cached = self.zeros(rows + 2, n, self.activation());
        self.cpu.rms_norm(&x, &self.values(1, n - 8, 18), 1e-5, &mut cached, 2);
        let mut sums = self.zeros(4, 3 * n, Dtype::F32);
        self.cpu.add_row(&self.values(4, n, 19), &self.values(1, 3 * n, 20), &mut sums);
        self.digest(&[&affine, &modulated, &silu, &normed, &cached, &sums])
    }

    fn queries(&self) -> u64 {
        let plain = self.finished(24, 3, 20, 12, 0, false);
        let normed = self.finished(24, 3, 20, 12, 6, true);
        self.digest(&[&plain, &normed])
    }

    fn dense(&self) -> u64 {
        let (tokens, heads, head_dim) = (40, 2, 18);
        let queries = self.finished(tokens, heads, head_dim, head_dim, 200, false);
        let cache = self.activations(300, 2 * heads * head_dim, 22, self.activation());
        let segments = [0..6, 36..276];
        let mut out = self.zeros(tokens, heads * head_dim, self.activation());
        let rotation = self.rotation(head_dim);
        let keys = Keys { cache: &cache, segments: &segments, rotation: Some(&rotation) };
        self.cpu.attend(&queries, Heads::Dense { heads, head_dim }, &keys, &mut out);
        let mut unturned = self.zeros(tokens, heads * head_dim, self.activation());
        let keys = Keys { rotation: None, ..keys };
        self.cpu.attend(&queries, Heads::Dense { heads, head_dim }, &keys, &mut unturned);
        self.digest(&[&out, &unturned])
    }

    fn latent(&self, path: MlaPath) -> u64 {
        let shape = MlaShape { heads: 3, kv_rank: 40, nope: 30, rope: 12, value: 34 };
        let MlaShape { heads, kv_rank, nope, rope, value } = shape;
        let (tokens, segments): (_, [Range<usize>; 2]) = (45, [0..12, 30..222]);
        let (k_up, v_up) =
            (self.host(heads * nope, kv_rank, 23), self.host(heads * value, kv_rank, 24));
        let k_up = Weight { n: heads * nope, k: kv_rank, values: &k_up };
        let v_up = Weight { n: heads * value, k: kv_rank, values: &v_up };
        let mla = self.cpu.load_mla(shape, path, k_up, v_up).unwrap();
        let queries = self.finished(tokens, heads, nope + rope, rope, 150, false);
        let cache = self.activations(240, kv_rank + rope, 25, self.activation());
        let rotation = self.rotation(rope);
        let keys = Keys { cache: &cache, segments: &segments, rotation: Some(&rotation) };
        let mut out = self.zeros(tokens, heads * value, self.activation());
        self.cpu.attend(&queries, Heads::Mla(&mla), &keys, &mut out);
        self.digest(&[&out])
    }

    fn biased(&self) -> u64 {
        let (tokens, heads, width) = (29, 3, 20);
        let qkv = self.values(tokens, 3 * heads * width, 26);
        let bias = self.values(heads * tokens, tokens, 27);
        let mask: Vec<bool> = (0..tokens).map(|key| key % 7 != 3).collect();
        let mut out = self.zeros(tokens, heads * width, self.activation());
        self.cpu.attend_biased(&qkv, heads, &bias, &mask, &mut out);
        self.digest(&[&out])
    }

    fn patches(&self) -> u64 {
        let grid = PatchGrid {
            channels: 3,
            frames: 2,
            rows: 3,
            columns: 5,
            patch_rows: 2,
            patch_columns: 1,
        };
        let mut patches = self.zeros(grid.tokens(), grid.patch(), self.activation());
        self.cpu.patchify(&self.values(3, grid.pixels(), 28), grid, &mut patches);
        let mut frames = self.zeros(3, grid.pixels(), Dtype::F32);
        self.cpu.unpatchify(&self.values(grid.tokens(), grid.patch(), 29), grid, &mut frames);
        self.digest(&[&patches, &frames])
    }

    /// Three frames, two at once and then one, with what was there before added.
    fn conv(&self, kind: ConvKind, [rows, columns, channels, n]: [usize; 4]) -> u64 {
        let (taps, scale, outputs) = match kind {
            ConvKind::Causal3 => (27, 1, n),
            ConvKind::DoubleTime => (3, 2, n / 2),
            ConvKind::DoubleSpace => (9, 4, n),
        };
        let pixels = rows * columns;
        let x = self.values(3 * pixels, channels, 30);
        let gamma = self.values(1, channels, 31);
        let (weight, bias) = (self.host(n, channels * taps, 32), self.host(1, n, 33));
        let weight = Weight { n, k: channels * taps, values: &weight };
        let conv = self.cpu.load_conv(kind, weight, &bias).unwrap();
        let grid = Grid { frames: 2, rows, columns, channels };
        let mut volume = self.cpu.volume(grid, kind).unwrap();
        let mut digest = Digest::new();
        for (frames, add) in [(0..2, false), (2..3, true)] {
            let activation = match add {
                true => Activation::NormSilu(&gamma),
                false => Activation::None,
            };
            let mut out = self.values(frames.len() * pixels * scale, outputs, 34);
            self.cpu.fill(&x, frames, activation, &mut volume);
            self.cpu.conv(&volume, &conv, add, &mut out);
            digest.take(self.cpu, &out);
        }
        digest.0
    }

    fn pictures(&self) -> u64 {
        let mut digest = Digest::new();
        digest.bytes(&self.cpu.download_bytes(&self.values(40, 30, 35)).unwrap());
        digest.0
    }

    /// Queries of a window of frames of 2 x 3 tokens.
    fn finished(
        &self,
        tokens: usize,
        heads: usize,
        head_dim: usize,
        rotated: usize,
        first: usize,
        normed: bool,
    ) -> Matrix {
        let n = heads * head_dim;
        let weight = self.values(1, n, 36);
        let rotation = self.rotation(rotated);
        let finish = FinishQueries {
            norm: normed.then_some((&weight, 1e-6)),
            head_dim,
            rotation: Some((&rotation, first, rotated)),
            scale: 0.25,
        };
        let mut out = self.zeros(tokens, n, self.activation());
        self.cpu.finish_queries(&self.values(tokens, n, 37), &finish, &mut out);
        out
    }

    fn rotation(&self, rotated: usize) -> <Cpu as Backend>::Rotation {
        let pairs = [rotated / 2 - 3, 1, 2];
        let axes = pairs.map(|pairs| Axis { pairs, theta: 10_000.0, denominator: 22.0 });
        let positions: Vec<f64> = (0..50).map(|frame| 1.5 * f64::from(frame)).collect();
        self.cpu.rotation(&Rope { axes, positions: Positions::Absolute }, &positions, 2, 3).unwrap()
    }

    fn activation(&self) -> Dtype {
        self.cpu.class().activation()
    }

    fn zeros(&self, rows: usize, columns: usize, dtype: Dtype) -> Matrix {
        self.cpu.zeros(rows, columns, dtype).unwrap()
    }

    /// Normal values, the same in every class.
    fn values(&self, rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut x = self.zeros(rows, columns, Dtype::F32);
        self.cpu.noise(Draw { seed, chunk: 1, step: 2, domain: 3 }, &mut x);
        x
    }

    fn host(&self, rows: usize, columns: usize, seed: u64) -> Vec<f32> {
        self.cpu.download(&self.values(rows, columns, seed)).unwrap()
    }

    fn activations(&self, rows: usize, columns: usize, seed: u64, dtype: Dtype) -> Matrix {
        self.cpu.upload(rows, columns, &self.host(rows, columns, seed), dtype).unwrap()
    }

    fn digest(&self, tensors: &[&Matrix]) -> u64 {
        let mut digest = Digest::new();
        tensors.iter().for_each(|x| digest.take(self.cpu, x));
        digest.0
    }
}

/// FNV-1a in 64 bits.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn take(&mut self, cpu: &Cpu, x: &Matrix) {
        self.bytes(&cpu.read_rows(x, 0..x.rows()).unwrap());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
