//! One film's bits do not depend on how it was computed: not on the number of
//! threads, not on pages having left the cache and come back.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use backend::Cpu;
use checkpoint::{Checkpoint, Ema, Source};
use model::{Chunk, Engine, Error, Film, History, Request, sampler::Noise};

/// Enough for the window to be full and its oldest page to leave.
const CHUNKS: u32 = 9;

/// The classes of this machine, at a number of threads.
fn classes(threads: usize) -> Vec<Cpu> {
    Cpu::classes().map(|class| Cpu::new(class, threads).unwrap()).collect()
}

#[test]
fn pictures_are_the_same_on_one_and_on_three_threads() {
    for (one, three) in classes(1).into_iter().zip(classes(3)) {
        let alone = make(one, |_, _| ());
        let shared = make(three, |_, _| ());
        assert!(alone == shared, "pictures differ with the number of threads");
    }
}

#[test]
fn pictures_are_the_same_after_pages_left_the_cache_and_came_back() {
    for (undisturbed, disturbed) in classes(2).into_iter().zip(classes(2)) {
        let layers = 8;
        let expected = make(undisturbed, |_, _| ());
        let got = make(disturbed, |cpu, film| {
            let job = film.sampler().job_mut();
            for chunk in job.slots().resident() {
                for layer in 0..layers {
                    let page = job.read_page(cpu, layer, chunk).unwrap();
                    assert!(page.iter().any(|&byte| byte != 0), "an empty page proves nothing");
                    job.write_page(cpu, layer, chunk, &vec![0; page.len()]).unwrap();
                    job.write_page(cpu, layer, chunk, &page).unwrap();
                }
            }
        });
        assert!(expected == got, "pictures differ after pages came back");
    }
}

#[test]
fn a_lost_page_changes_the_pictures() {
    let expected = make(Cpu::f32(2), |_, _| ());
    let got = make(Cpu::f32(2), |cpu, film| {
        let job = film.sampler().job_mut();
        let chunk = job.slots().resident()[0];
        let page = job.read_page(cpu, 3, chunk).unwrap();
        job.write_page(cpu, 3, chunk, &vec![0; page.len()]).unwrap();
    });
    assert!(expected != got, "the cache is not read, so the tests above prove nothing");
}

#[test]
fn a_new_prompt_takes_effect_and_recaching_differs_from_keeping() {
    let engine = engine(Cpu::f32(2));
    let film = |switch: Option<History>| {
        let mut film = start(&engine);
        let mut chunks = Vec::new();
        for index in 0..4 {
            if let (2, Some(history)) = (index, switch) {
                let prompt = engine.prompt("a blue cube spins over the sea at sunset").unwrap();
                film.switch_prompt(&prompt, history).unwrap();
            }
            chunks.push(film.next_chunk(&mut |_| ()).unwrap().pictures);
        }
        chunks
    };
    let (never, keep, recache) =
        (film(None), film(Some(History::Keep)), film(Some(History::Recache)));
    assert!(never[..2] == keep[..2] && never[..2] == recache[..2], "a switch changed the past");
    assert!(never[2] != keep[2], "the new prompt had no effect");
    assert!(keep[2] != recache[2], "running the history again had no effect");
}

#[test]
fn running_the_window_again_under_its_own_prompt_changes_no_bit() {
    for cpu in classes(2) {
        let engine = engine(cpu);
        let film = |rerun: bool| {
            let mut film = start(&engine);
            for _ in 0..4 {
                film.next_chunk(&mut |_| ()).unwrap();
            }
            if rerun {
                film.switch_prompt(&request(&engine).prompt, History::Recache).unwrap();
                let job = film.sampler().job_mut();
                // What the window held before is overwritten.
                assert!(matches!(job.rollback(3), Err(Error::Rerun { rerun_at: 4, .. })));
            }
            let pages = pages(engine.backend(), &mut film);
            (pages, film.next_chunk(&mut |_| ()).unwrap().x0)
        };
        assert!(film(false) == film(true), "a commit pass that is run again is another one");
    }
}

/// The bytes of every resident page.
fn pages(cpu: &Cpu, film: &mut Film<'_, Cpu>) -> Vec<Vec<u8>> {
    let job = film.sampler().job();
    let chunks = job.slots().resident();
    let page = |(layer, chunk)| job.read_page(cpu, layer, chunk).unwrap();
    job.layers()
        .flat_map(|layer| chunks.iter().map(move |&chunk| (layer, chunk)))
        .map(page)
        .collect()
}

#[test]
fn another_seed_is_another_film() {
    let engine = engine(Cpu::f32(2));
    let first = |seed| {
        let request = Request { noise: Noise::Seed(seed), ..request(&engine) };
        engine.start(&request).unwrap().next_chunk(&mut |_| ()).unwrap().x0
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

/// A film of [`CHUNKS`] chunks, disturbed once in the middle.
fn make(cpu: Cpu, disturb: impl Fn(&Cpu, &mut Film<'_, Cpu>)) -> Vec<(Vec<f32>, Vec<Vec<u8>>)> {
    let engine = engine(cpu);
    let mut film = start(&engine);
    let mut chunks = Vec::new();
    for index in 0..CHUNKS {
        if index == CHUNKS - 1 {
            disturb(engine.backend(), &mut film);
        }
        let Chunk { x0, pictures, .. } = film.next_chunk(&mut |_| ()).unwrap();
        chunks.push((x0, pictures));
    }
    chunks
}

fn engine(cpu: Cpu) -> Engine<Cpu> {
    let source = Source::embedded(filmloom_mini::FILES);
    let checkpoint = Checkpoint::open(source, Ema::Prefer).expect("the embedded model is whole");
    Engine::load(Arc::new(cpu), &checkpoint).expect("the embedded model loads")
}

fn start(engine: &Engine<Cpu>) -> Film<'_, Cpu> {
    engine.start(&request(engine)).expect("the embedded model makes films")
}

/// A film with few first steps: what is compared does not depend on quality.
fn request(engine: &Engine<Cpu>) -> Request {
    let model = engine.model();
    let mut sampler = model.sampler.clone();
    sampler.first_chunk.steps = types::StepList::Even(2);
    sampler.later_chunks.steps = types::StepList::Even(2);
    Request {
        prompt: engine.prompt("a red ball bounces over green hills").unwrap(),
        noise: Noise::Seed(3),
        sampler,
        width: model.video.width,
        height: model.video.height,
        frames: None,
    }
}
