//! The decoder with random weights of small, awkward shapes. Its numbers are
//! compared with PyTorch's by the golden tests.

use backend::Cpu;
use checkpoint::manifest;

use super::*;

const ROWS: usize = 3;
const COLUMNS: usize = 5;
const FRAMES: usize = 4;

#[test]
fn frame_by_frame_equals_the_whole_clip() {
    for config in configs() {
        for cpu in classes(2) {
            let whole = decode(&cpu, &config, &[FRAMES]);
            for calls in [&[1; FRAMES][..], &[1, 3], &[3, 1], &[0, 2, 0, 2]] {
                assert!(decode(&cpu, &config, calls) == whole, "{calls:?} of {config:?}");
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    for config in configs() {
        for (one, three) in classes(1).into_iter().zip(classes(3)) {
            assert!(decode(&one, &config, &[FRAMES]) == decode(&three, &config, &[FRAMES]));
        }
    }
}

#[test]
fn the_first_frame_gives_one_picture_and_every_other_its_share() {
    for config in configs() {
        let cpu = Cpu::f32(1);
        let decoder = decoder(&cpu, &config);
        let mut stream = decoder.stream(&cpu, ROWS, COLUMNS).unwrap();
        for frame in 0..FRAMES {
            let pictures = decoder
                .decode(&cpu, &mut stream, &frames(&cpu, &config, frame..frame + 1))
                .unwrap();
            let expected = config.pictures(frame + 1) - config.pictures(frame);
            assert_eq!(pictures.count, expected);
            assert_eq!(pictures.rows, ROWS * config.space_scale());
            let bytes = pictures.bytes(&cpu).unwrap();
            assert_eq!(bytes.len(), expected * pictures.rows * pictures.columns * 3);
        }
    }
}

#[test]
fn every_frame_depends_on_the_ones_before() {
    for config in configs() {
        let cpu = Cpu::f32(1);
        let decoder = decoder(&cpu, &config);
        let mut stream = decoder.stream(&cpu, ROWS, COLUMNS).unwrap();
        let frames = frames(&cpu, &config, 1..2);
        let run = |stream: &mut Stream<Cpu>| {
            decoder.decode(&cpu, stream, &frames).unwrap().values(&cpu).unwrap()
        };
        let first = run(&mut stream);
        let second = run(&mut stream);
        let third = run(&mut stream);
        assert!(first != second[..first.len()] && second != third);

        // What one video leaves behind is its stream's, not the decoder's.
        let mut other = decoder.stream(&cpu, ROWS, COLUMNS).unwrap();
        assert!(run(&mut other) == first && run(&mut other) == second);
    }
}

#[test]
fn streams_do_not_disturb_each_other() {
    let (cpu, config) = (Cpu::f32(1), configs().remove(0));
    let decoder = decoder(&cpu, &config);
    let stream = || decoder.stream(&cpu, ROWS, COLUMNS).unwrap();
    let frame = |index: usize| frames(&cpu, &config, index..index + 1);
    let run = |stream: &mut Stream<Cpu>, index: usize| {
        decoder.decode(&cpu, stream, &frame(index)).unwrap().values(&cpu).unwrap()
    };
    let mut alone = stream();
    let expected = [run(&mut alone, 0), run(&mut alone, 1)];
    let (mut one, mut other) = (stream(), stream());
    let first = run(&mut one, 0);
    run(&mut other, 2);
    assert!(first == expected[0] && run(&mut one, 1) == expected[1]);
    assert!(0 < one.bytes(&cpu));
}

#[test]
fn frames_of_another_size_are_refused() {
    let (cpu, config) = (Cpu::f32(1), configs().remove(0));
    let decoder = decoder(&cpu, &config);
    let mut stream = decoder.stream(&cpu, ROWS, COLUMNS).unwrap();
    for (channels, pixels) in [(config.z_dim + 1, ROWS * COLUMNS), (config.z_dim, 7)] {
        let wrong = cpu.zeros(channels, pixels, Dtype::F32).unwrap();
        let error = decoder.decode(&cpu, &mut stream, &wrong).unwrap_err().to_string();
        assert!(error.contains("frame tensors have shape"), "{error}");
    }
}

/// All pictures of the clip, decoded in calls of so many frames.
fn decode(cpu: &Cpu, config: &Vae, calls: &[usize]) -> Vec<f32> {
    let decoder = decoder(cpu, config);
    let mut stream = decoder.stream(cpu, ROWS, COLUMNS).unwrap();
    let mut values = Vec::new();
    let mut next = 0;
    for call in calls {
        let frames = frames(cpu, config, next..next + call);
        next += call;
        let pictures = decoder.decode(cpu, &mut stream, &frames).unwrap();
        values.extend(pictures.values(cpu).unwrap());
    }
    assert!(values.iter().any(|value| value.abs() < 1.0), "all of the clip is saturated");
    values
}

fn decoder(cpu: &Cpu, config: &Vae) -> Decoder<Cpu> {
    let tensors = Tensors::random(manifest::vae_decoder(config), 7);
    Decoder::load(cpu, &tensors, config).unwrap()
}

/// Some frames of a fixed clip.
fn frames(cpu: &Cpu, config: &Vae, frames: std::ops::Range<usize>) -> <Cpu as Backend>::Tensor {
    let pixels = ROWS * COLUMNS;
    let value = |channel: usize, index: usize| {
        ((channel * FRAMES * pixels + index) * 7919 % 1013) as f32 / 506.5 - 1.0
    };
    let range = frames.start * pixels..frames.end * pixels;
    let values: Vec<f32> = (0..config.z_dim)
        .flat_map(|channel| range.clone().map(move |index| value(channel, index)))
        .collect();
    cpu.upload(config.z_dim, range.len(), &values, Dtype::F32).unwrap()
}

fn configs() -> Vec<Vae> {
    let config = |z_dim: usize, dim, dim_mult: &[usize], res_units, halves: &[bool]| Vae {
        decoder_base_dim: dim,
        z_dim,
        dim_mult: dim_mult.to_vec(),
        res_units,
        temporal_downsample: halves.to_vec(),
        latents_mean: vec![0.25; z_dim],
        latents_std: vec![1.5; z_dim],
    };
    vec![
        config(5, 4, &[1, 2, 4], 1, &[false, true]),
        config(3, 6, &[1, 3], 2, &[true]),
        config(4, 8, &[2], 0, &[]),
    ]
}

fn classes(threads: usize) -> Vec<Cpu> {
    Cpu::classes().map(|class| Cpu::new(class, threads).unwrap()).collect()
}
