//! `filmloom generate --server`: a pool makes the video, this machine keeps it.
//!
//! In this order: the arguments are checked, the output is opened, Ctrl-C is listened
//! for, the server is asked. So nothing is made that cannot be kept, and Ctrl-C always
//! deletes what the server was asked for.

use serde_json::{Value, json};

use super::{
    Server,
    follow::follow,
    keep::Output,
    making::Making,
    told::{Done, Told},
};
use crate::{
    args::{GenerateArgs, PromptSwitch},
    failure::Failure,
    generate::refuse,
    interrupt::Interrupt,
    terminal, time,
};

/// Lets the server make the video that `args` ask for.
///
/// # Errors
///
/// [`Failure`] if the server refuses or fails, or the output cannot be written.
pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let told = Told::new(args);
    let outcome = make(args, &told);
    if let (true, Err(failure @ (Failure::Input(_) | Failure::Machine(_)))) = (args.json, &outcome)
    {
        refuse(failure);
    }
    outcome.and_then(|()| told.told())
}

fn make(args: &GenerateArgs, told: &Told<'_>) -> Result<(), Failure> {
    check(args)?;
    let server = Server::new(args.server.as_deref().unwrap_or_default(), args.api_key.as_deref())?;
    let request = request(args)?;
    let mut output = Output::create(&args.output)?;
    let interrupt = Interrupt::listen(|| ())?;
    let video = server.post("/v1/videos", &request)?;
    let Some(id) = video["id"].as_str() else {
        return Err(Failure::Machine("the server gave the video no id".to_owned()));
    };
    let seed = video["seed"].as_u64().or(args.seed).unwrap_or(0);
    let making = Making {
        server: &server,
        id,
        content: output.content(),
        interrupt: &interrupt,
        tell: &|event| told.event(event),
    };
    told.taken(&server.url(&making.path("")), seed, args.seed.is_none());
    let kept = follow(&making).and_then(|pictures| {
        output.keep(&making, pictures)?;
        Ok(pictures)
    });
    told.end();
    match kept {
        Ok(pictures) => {
            let done = Done { id, seed, pictures, is_interrupted: false };
            told.done(&done, || server.json(&making.path("")));
            Ok(())
        }
        Err(Failure::Interrupted(what)) => {
            let after = delete(&making);
            let done = Done { id, seed, pictures: output.pictures(), is_interrupted: true };
            told.done(&done, || server.json(&making.path("")));
            Err(Failure::Interrupted(format!("{what}; {after}")))
        }
        Err(failure) => Err(failure),
    }
}

/// Deletes the video on the server; says what became of it there.
fn delete(making: &Making<'_>) -> &'static str {
    match making.delete() {
        Ok(()) => "the server has deleted the video",
        Err(failure) => {
            let (url, problem) = (making.server.url(&making.path("")), failure.line());
            terminal::say(&format!("the video cannot be deleted: {problem}; try DELETE {url}"));
            "the video is still on the server"
        }
    }
}

fn check(args: &GenerateArgs) -> Result<(), Failure> {
    let refused = |problem: &str| Err(Failure::Input(problem.to_owned()));
    if args.steps.is_some() || args.first_steps.is_some() {
        return refused("--steps and --first-steps are not for --server: it makes its own steps");
    }
    if args.prompt_switch == PromptSwitch::Recache {
        return refused("--prompt-switch recache is not for --server: leave it out");
    }
    Ok(())
}

fn request(args: &GenerateArgs) -> Result<Value, Failure> {
    let mut request = json!({ "prompt": args.prompt, "seconds": args.seconds.to_string() });
    if let Some(seed) = args.seed {
        request["seed"] = json!(seed);
    }
    if let Some(size) = args.size {
        request["size"] = json!(format!("{}x{}", size.width, size.height));
    }
    let mut schedule = Vec::new();
    for pair in args.prompt_at.chunks_exact(2) {
        let at_seconds = time::parse_seconds(&pair[0])
            .map_err(|problem| Failure::Input(format!("--prompt-at {}: {problem}", pair[0])))?;
        schedule.push((at_seconds, json!({ "at_seconds": at_seconds, "prompt": pair[1] })));
    }
    schedule.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    if !schedule.is_empty() {
        let prompts: Vec<_> = schedule.into_iter().map(|(_, prompt)| prompt).collect();
        request["prompt_schedule"] = json!(prompts);
    }
    Ok(request)
}
