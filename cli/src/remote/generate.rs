//! `filmloom generate --server`: a pool makes the video, this machine keeps it.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use serde_json::{Value, json};
use video::{Format, PartFile};

use super::Server;
use crate::{
    args::{GenerateArgs, PromptSwitch},
    failure::Failure,
    interrupt::Interrupt,
    terminal::{self, Bar},
    time,
};

/// Bytes of a picture in an archive, at most.
const PICTURE_BYTES_MAX: u64 = 256 << 20;

/// Lets the server make the video that `args` ask for.
///
/// # Errors
///
/// [`Failure`] if the server refuses or fails, or the output cannot be written.
pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let format = Format::from_path(&args.output)?;
    let refused = |problem: &str| Err(Failure::Input(problem.to_owned()));
    if !matches!(format, Format::Mp4 | Format::PngFolder) {
        return refused("a server gives .mp4, or pictures into a folder whose name ends in /");
    }
    if args.steps.is_some() || args.first_steps.is_some() {
        return refused("--steps and --first-steps are not for --server: it makes its own steps");
    }
    if args.prompt_switch == PromptSwitch::Recache {
        return refused("--prompt-switch recache is not for --server: leave it out");
    }
    if format == Format::PngFolder && args.output.join("000001.png").exists() {
        let output = args.output.display();
        return refused(&format!("{output} holds pictures already: name another folder"));
    }
    let server = Server::new(args.server.as_deref().unwrap_or_default(), args.api_key.as_deref())?;
    let video = server.post("/v1/videos", &request(args)?)?;
    let Some(id) = video["id"].as_str().map(str::to_owned) else {
        return Err(Failure::Machine("the server gave the video no id".to_owned()));
    };
    let interrupt = Interrupt::listen(|| ())?;
    let told = Told::new(args);
    if let Err(failure) = follow(&server, &id, &interrupt, &told) {
        told.end();
        if matches!(failure, Failure::Interrupted(_)) {
            server.delete(&format!("/v1/videos/{id}"))?;
        }
        return Err(failure);
    }
    told.end();
    keep(&server, &id, args, format)?;
    let video = server.json(&format!("/v1/videos/{id}"))?;
    told.done(&video, &args.output)
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

/// Follows the video's events until it is finished.
fn follow(server: &Server, id: &str, interrupt: &Interrupt, told: &Told) -> Result<(), Failure> {
    let events = server.stream(&format!("/v1/videos/{id}/events"))?;
    for line in BufReader::new(events).lines() {
        if interrupt.asked() {
            return Err(Failure::Interrupted("the server deletes the video".to_owned()));
        }
        let line = line.map_err(|error| {
            Failure::Machine(format!("the server broke off: {error}; the video {id} goes on there"))
        })?;
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(data.trim()) else { continue };
        told.event(&event)?;
        match event["type"].as_str() {
            Some("done") => return Ok(()),
            Some("failed") => {
                let message = event["error"]["message"].as_str().unwrap_or("it failed");
                return Err(Failure::Machine(format!("the server could not make it: {message}")));
            }
            Some("cancelled") => {
                return Err(Failure::Machine("the video was deleted on the server".to_owned()));
            }
            Some(_) | None => {}
        }
    }
    Err(Failure::Machine(format!("the server broke off; the video {id} goes on there")))
}

/// Brings the finished video here.
fn keep(server: &Server, id: &str, args: &GenerateArgs, format: Format) -> Result<(), Failure> {
    let output = &args.output;
    let failed =
        |error: io::Error| Failure::Machine(format!("cannot write {}: {error}", output.display()));
    if format == Format::PngFolder {
        let archive = server.stream(&format!("/v1/videos/{id}/content?variant=pictures"))?;
        return unpack(archive, output).map_err(failed);
    }
    let mut content = server.stream(&format!("/v1/videos/{id}/content"))?;
    let mut file = PartFile::create(output)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = content.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        file.append(&buffer[..count]).map_err(failed)?;
    }
    file.sync().map_err(failed)?;
    file.publish().map_err(failed)
}

/// Writes the pictures of an archive into a folder. Only plain names are written.
fn unpack(archive: impl Read, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let name = path.file_name().filter(|name| Path::new(name) == path);
        let Some(name) = name else {
            return Err(io::Error::other(format!("{} is no picture's name", path.display())));
        };
        let mut file = fs::File::create(folder.join(name))?;
        io::copy(&mut entry.take(PICTURE_BYTES_MAX), &mut file)?;
    }
    Ok(())
}

/// What is told meanwhile.
struct Told<'a> {
    args: &'a GenerateArgs,
    bar: Option<Bar>,
}

impl<'a> Told<'a> {
    fn new(args: &'a GenerateArgs) -> Self {
        let is_shown = !args.quiet && !args.json && terminal::is_watched();
        Self { args, bar: is_shown.then(|| Bar::new(100)) }
    }

    fn event(&self, event: &Value) -> Result<(), Failure> {
        if self.args.json {
            return terminal::json_line(event);
        }
        let Some(bar) = &self.bar else { return Ok(()) };
        match event["type"].as_str() {
            Some("queued") => {
                let position = event["position"].as_u64().unwrap_or(0);
                bar.show(0, "waiting".to_owned(), format!("{position} videos ahead"));
            }
            Some("chunk_committed") => {
                let count = |name: &str| event[name].as_u64().unwrap_or(0);
                let (chunk, chunks) = (count("chunk") + 1, count("chunks").max(1));
                let words = format!("chunk {chunk} of {chunks}, {} pictures", count("pictures"));
                bar.show(chunk * 100 / chunks, "making".to_owned(), words);
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    fn end(&self) {
        self.bar.iter().for_each(Bar::clear);
    }

    fn done(&self, video: &Value, output: &Path) -> Result<(), Failure> {
        if self.args.quiet || self.args.json {
            return Ok(());
        }
        let count = |name: &str| video[name].as_u64().unwrap_or(0);
        let took = count("completed_at").saturating_sub(count("started_at"));
        let (output, pictures) = (output.display(), count("pictures"));
        terminal::say(&format!("{output}: {pictures} pictures, made in {took} s"));
        let timings = video["stage_timings"].as_array().map_or(&[][..], Vec::as_slice);
        for timing in timings {
            let seconds = |name: &str| timing[name].as_f64().unwrap_or(0.0);
            terminal::say(&format!(
                "  {:<28} compute {:>8.1} s, wait {:>8.1} s",
                timing["stage"].as_str().unwrap_or("?"),
                seconds("compute_seconds"),
                seconds("wait_seconds"),
            ));
        }
        terminal::say(&format!("seed {}", count("seed")));
        Ok(())
    }
}
