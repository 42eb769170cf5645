//! Tests of [`super`]: published schedules, then properties of any schedule.

use proptest::prelude::*;

use super::*;

#[test]
fn self_forcing_list_is_warped_to_its_published_timesteps() {
    let plan = chunk_passes(&self_forcing(), 7).unwrap();

    // Self-Forcing's configuration, [1000, 750, 500, 250] under shift 5.
    assert_eq!(timesteps(&plan), [1000.0, 937.5, 833.333_3, 625.0, 0.0]);
    assert_eq!(sigmas(&plan), [1.0, 0.9375, 0.833_333_3, 0.625, 0.0]);
    let updates: Vec<_> = plan.passes.iter().map(|pass| pass.update).collect();
    assert_eq!(
        updates,
        [
            PassUpdate::Renoise { noise_step: 1 },
            PassUpdate::Renoise { noise_step: 2 },
            PassUpdate::Renoise { noise_step: 3 },
            PassUpdate::Finish,
            PassUpdate::Discard,
        ]
    );
}

#[test]
fn four_even_steps_are_the_warped_list() {
    let counts = StepCounts { first_chunk: NonZeroU32::new(4), later_chunks: None };
    let sampler = with_steps(&self_forcing(), counts);

    assert_eq!(sampler.first_chunk.steps, StepList::Even(4));
    assert_eq!(sampler.later_chunks, self_forcing().later_chunks);
    assert_eq!(chunk_passes(&sampler, 0), chunk_passes(&sampler, 1));
}

#[test]
fn rounded_list_is_fed_as_it_is_and_looks_its_noise_up() {
    let mut sampler = self_forcing();
    sampler.later_chunks.steps = StepList::Listed(vec![1000.0, 937.0, 833.0, 625.0]);
    let plan = chunk_passes(&sampler, 1).unwrap();

    // Krea's list. The table's neighbours are 937.19 and 936.87 around 937, and
    // 833.33 and 832.78 around 833: entries 252 and 501 are the nearest.
    assert_eq!(timesteps(&plan), [1000.0, 937.0, 833.0, 625.0, 0.0]);
    let expected = [1.0, 3740.0 / 3992.0, 2495.0 / 2996.0, 0.625, 0.0];
    assert_eq!(sigmas(&plan), expected.map(round));
}

#[test]
fn first_chunk_of_the_embedded_model_is_guided_and_longer() {
    let sampler = embedded();
    let (first, later) = (chunk_passes(&sampler, 0).unwrap(), chunk_passes(&sampler, 1).unwrap());

    assert_eq!((first.passes.len(), first.runs()), (11, 21));
    assert_eq!((later.passes.len(), later.runs()), (5, 5));
    assert_eq!(first.passes[9].branches, Branches::Guided { weight: 2.5 });
    assert_eq!(first.passes[10].branches, Branches::Conditional);
    // u = 1, 3/4, 1/2, 1/4 under t = 3u / (1 + 2u).
    assert_eq!(sigmas(&later), [1.0, 0.9, 0.75, 0.5, 0.0]);
    assert!(later.passes[..4].iter().all(|pass| pass.update == PassUpdate::Euler));
}

#[test]
fn commit_pass_is_the_clean_chunk_under_the_prompt_alone() {
    let plan = chunk_passes(&embedded(), 0).unwrap();
    let commit = PassPlan {
        step: 10,
        kind: PassKind::Commit,
        branches: Branches::Conditional,
        timestep: 0.0,
        sigma: 0.0,
        sigma_next: 0.0,
        update: PassUpdate::Discard,
    };

    assert_eq!(plan.passes.last(), Some(&commit));
}

#[test]
fn impossible_samplers_are_named() {
    let with = |steps| {
        let mut sampler = self_forcing();
        sampler.later_chunks.steps = steps;
        chunk_passes(&sampler, 1).unwrap_err()
    };
    let listed = |timesteps: &[f64]| with(StepList::Listed(timesteps.to_vec()));
    assert_eq!(with(StepList::Even(0)), Error::NoSteps);
    assert_eq!(listed(&[]), Error::NoSteps);
    assert_eq!(with(StepList::Even(1001)), Error::TooManySteps { steps: 1001 });
    assert_eq!(listed(&[500.0, 0.0]), Error::StepOutOfRange { index: 1, timestep: 0.0 });
    assert_eq!(listed(&[1000.5]), Error::StepOutOfRange { index: 0, timestep: 1000.5 });
    assert!(matches!(listed(&[f64::NAN]), Error::StepOutOfRange { index: 0, .. }));
    let rising = Error::StepsNotFalling { index: 1, timestep: 250.0, before: 250.0 };
    assert_eq!(listed(&[250.0, 250.0]), rising);

    let mut sampler = self_forcing();
    sampler.shift = 0.0;
    assert_eq!(chunk_passes(&sampler, 1), Err(Error::Shift { shift: 0.0 }));
    sampler.shift = f64::INFINITY;
    assert_eq!(chunk_passes(&sampler, 1), Err(Error::Shift { shift: f64::INFINITY }));
    sampler.shift = 5.0;
    sampler.first_chunk.guidance = f32::INFINITY;
    assert_eq!(chunk_passes(&sampler, 0), Err(Error::Guidance { weight: f32::INFINITY }));
}

#[test]
fn lists_are_refused_that_are_no_schedules() {
    let mut lists = [vec![0.0], vec![1000.5], vec![f64::NAN], vec![250.0, 250.0]].to_vec();
    lists.extend([vec![], vec![1.0; STEPS_MAX + 1], vec![1000.0, 0.5], vec![1000.0]]);
    for list in lists {
        assert_eq!(check_listed(&list).is_ok(), types::wan::is_schedule(&list), "{list:?}");
    }
}

proptest! {
    #[test]
    fn any_schedule_falls_without_gaps_to_zero(
        steps in step_list(), shift in 0.2_f64..20.0, renoise: bool, chunk in 0_u32..3,
    ) {
        let update = if renoise { Update::Renoise } else { Update::Euler };
        let chunks = SizedChunk { steps: steps.clone(), guidance: 1.0 };
        let sampler =
            Sampler { update, shift, first_chunk: chunks.clone(), later_chunks: chunks };
        let ChunkPasses { passes } = chunk_passes(&sampler, chunk).unwrap();
        let (commit, denoise) = passes.split_last().unwrap();

        prop_assert_eq!(commit.kind, PassKind::Commit);
        prop_assert!(denoise.iter().all(|pass| pass.kind == PassKind::Denoise));
        prop_assert!(passes.iter().enumerate().all(|(i, pass)| pass.step as usize == i));
        prop_assert!(passes.windows(2).all(|pair| pair[0].sigma_next == pair[1].sigma));
        prop_assert!(passes.windows(2).all(|pair| pair[1].timestep < pair[0].timestep));
        let strict = !matches!(steps, StepList::Listed(_));
        for pair in passes.windows(2) {
            prop_assert!(pair[1].sigma <= pair[0].sigma);
            prop_assert!(!strict || pair[1].sigma < pair[0].sigma);
        }
        prop_assert!(denoise.iter().all(|pass| 0.0 < pass.sigma && pass.sigma <= 1.0));
        prop_assert_eq!(denoise.last().unwrap().sigma_next, 0.0);
        if let StepList::Even(count) = steps {
            prop_assert_eq!(denoise.len(), count);
            prop_assert_eq!(denoise[0].sigma, 1.0);
            prop_assert_eq!(denoise[0].timestep, 1000.0);
        }
    }
}

fn step_list() -> impl Strategy<Value = StepList> {
    let falling = proptest::collection::btree_set(1_u32..=1000, 1..60)
        .prop_map(|steps| steps.into_iter().rev().map(f64::from).collect::<Vec<_>>());
    prop_oneof![
        (1..=STEPS_MAX).prop_map(StepList::Even),
        falling.clone().prop_map(StepList::Warped),
        falling.prop_map(StepList::Listed),
    ]
}

/// Self-Forcing's and VideoMLA's sampler.
fn self_forcing() -> Sampler {
    let steps = StepList::Warped(vec![1000.0, 750.0, 500.0, 250.0]);
    let chunk = SizedChunk { steps, guidance: 1.0 };
    let (first_chunk, later_chunks) = (chunk.clone(), chunk);
    Sampler { update: Update::Renoise, shift: 5.0, first_chunk, later_chunks }
}

/// The embedded model's sampler.
fn embedded() -> Sampler {
    Sampler {
        update: Update::Euler,
        shift: 3.0,
        first_chunk: SizedChunk { steps: StepList::Even(10), guidance: 2.5 },
        later_chunks: SizedChunk { steps: StepList::Even(4), guidance: 1.0 },
    }
}

fn timesteps(plan: &ChunkPasses) -> Vec<f32> {
    plan.passes.iter().map(|pass| pass.timestep).collect()
}

fn sigmas(plan: &ChunkPasses) -> Vec<f32> {
    plan.passes.iter().map(|pass| pass.sigma).collect()
}
