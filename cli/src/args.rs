//! The command line: what can be asked for, and how a wrong line is refused.

use std::{ffi::OsString, ops::RangeInclusive, path::PathBuf, process::ExitCode};

use backend::{Class, Cpu, Dtype};
use clap::{
    Args as Arguments, Parser, Subcommand, ValueEnum,
    error::{ContextKind, ContextValue, ErrorKind},
};
use plan::memory::Size;

use crate::{
    bench::BenchCommand,
    cluster::{DrainArgs, ServeArgs, StatusArgs, TokenCommand, WorkerArgs},
    failure::Failure,
    forward::ForwardArgs,
    generate, system, terminal, time,
};

/// Makes videos from prompts, chunk by chunk, on the processor alone.
#[derive(Debug, Parser)]
#[command(name = "filmloom", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Generate(GenerateArgs),
    Plan(PlanArgs),
    /// Looks into a model.
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    Serve(ServeArgs),
    Worker(WorkerArgs),
    Status(StatusArgs),
    Drain(DrainArgs),
    /// Makes, lists and revokes what lets machines and programs into a cluster.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Measures speed and memory on this machine.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    Inspect(InspectArgs),
    /// Runs one part of a model on given tensors.
    Forward(ForwardArgs),
}

/// Makes a video from a prompt.
///
/// The format follows from the file name: .mp4 (H.264), .webp, .gif, or a name
/// that ends in / for a folder of PNG pictures. Ctrl-C finishes the file with
/// what is there; a second Ctrl-C ends at once.
#[derive(Arguments, Debug)]
#[command(after_help = GENERATE_EXAMPLES, args_override_self = true)]
pub(crate) struct GenerateArgs {
    /// What the video shows.
    #[arg(value_name = "PROMPT")]
    pub(crate) prompt: String,
    /// File to write, or a folder for PNG pictures.
    #[arg(short, long, value_name = "FILE|DIR/")]
    pub(crate) output: PathBuf,
    /// Length of the video: 60, 2.5s or 1m30s.
    #[arg(
        short, long, value_name = "TIME", default_value = "5",
        value_parser = time::parse_seconds, allow_hyphen_values = true
    )]
    pub(crate) seconds: f64,
    /// Number the noise is drawn from; the same seed gives the same video
    /// [default: random, and printed].
    #[arg(
        long, value_name = "N", value_parser = whole::<u64>(0..=u64::MAX),
        allow_negative_numbers = true
    )]
    pub(crate) seed: Option<u64>,
    /// Folder of the model [default: the embedded one].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// Changes the prompt from the first chunk that begins at TIME or later;
    /// may be given several times.
    #[arg(
        long, value_names = ["TIME", "PROMPT"], num_args = 2, action = clap::ArgAction::Append,
        allow_negative_numbers = true
    )]
    pub(crate) prompt_at: Vec<String>,
    /// What a change of the prompt does with the frames in the window.
    #[arg(
        long, value_enum, default_value_t = PromptSwitch::Keep,
        requires_if("recache", "prompt_at")
    )]
    pub(crate) prompt_switch: PromptSwitch,
    /// Size of the pictures, such as 832x480 [default: the model's own].
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    pub(crate) size: Option<Size>,
    /// Denoising steps of a chunk [default: the model's own].
    #[arg(
        long, value_name = "N", value_parser = whole::<u32>(1..=1000),
        allow_negative_numbers = true
    )]
    pub(crate) steps: Option<u32>,
    /// Denoising steps of the first chunk, from which all others take their
    /// look [default: the model's own; --steps where the model makes no
    /// difference].
    #[arg(
        long, value_name = "N", value_parser = whole::<u32>(1..=1000),
        allow_negative_numbers = true
    )]
    pub(crate) first_steps: Option<u32>,
    /// Lets the pool behind this server make the video.
    #[arg(long, value_name = "URL", conflicts_with_all = ["model", "threads", "precision"])]
    pub(crate) server: Option<String>,
    /// A key of the server.
    #[arg(long, value_name = "KEY", env = "FILMLOOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Numbers to compute with.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) precision: Precision,
    /// Writes one JSON event per line to standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// Shows no progress and no summary.
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// How many threads to compute with.
#[derive(Arguments, Clone, Copy, Debug)]
pub(crate) struct Threads {
    /// Threads to compute with [default: one for every core].
    #[arg(
        short, long, value_name = "N", value_parser = whole::<u16>(1..=1024),
        allow_negative_numbers = true
    )]
    threads: Option<u16>,
}

impl Threads {
    /// As many as asked for, or as there are cores.
    pub(crate) fn count(self) -> usize {
        self.threads.map_or_else(system::threads, usize::from)
    }
}

/// Shows what a video takes: weights, caches and activations, dense and MLA.
///
/// With --server it is what the pool there would do: what would run where, at what
/// speed, and why. Nothing is changed.
#[derive(Arguments, Debug)]
#[command(after_help = PLAN_EXAMPLES, args_override_self = true)]
pub(crate) struct PlanArgs {
    /// A model folder, or a built-in shape: mini, wan-1.3b, videomla-1.3b,
    /// wan-14b, wan-14b-mla or 32x32x128 [default: mini, the embedded model].
    /// With --server: the model that must be served there, by its name or its
    /// folder's.
    #[arg(short, long, value_name = "DIR|NAME")]
    pub(crate) model: Option<PathBuf>,
    /// Length of the video: 60, 2.5s or 1m30s.
    #[arg(
        short, long, value_name = "TIME", default_value = "60",
        value_parser = time::parse_seconds, allow_hyphen_values = true
    )]
    pub(crate) seconds: f64,
    /// Size of the pictures, such as 832x480 [default: the model's own].
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    pub(crate) size: Option<Size>,
    /// Attention to plan for [default: the model's own].
    #[arg(long, value_enum)]
    pub(crate) attention: Option<AttentionKind>,
    /// Numbers to store: 2 bytes (bf16) or 4 bytes (f32).
    #[arg(long, value_enum, default_value_t = Stored::Bf16)]
    pub(crate) precision: Stored,
    /// Asks the pool behind this server.
    #[arg(long, value_name = "URL", conflicts_with_all = ["attention", "precision"])]
    pub(crate) server: Option<String>,
    /// A key of the server.
    #[arg(long, value_name = "KEY", env = "FILMLOOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Videos at once, with --server [default: as many as the server makes].
    #[arg(
        short, long, value_name = "N", value_parser = whole::<u32>(1..=1000),
        allow_negative_numbers = true, requires = "server"
    )]
    pub(crate) jobs: Option<u32>,
    /// Writes JSON with exact bytes.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows what a model folder holds: parts, shapes, parameters, what is missing.
#[derive(Arguments, Debug)]
pub(crate) struct InspectArgs {
    /// Folder of the model [default: the embedded one].
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Writes JSON, with every tensor.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a change of the prompt does with the frames in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PromptSwitch {
    /// They stay as they are: the picture changes slowly.
    Keep,
    /// They are run again under the new prompt: it changes at once.
    Recache,
}

/// Numbers to compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// The fastest that this processor has.
    Auto,
    /// Everything in f32: the reference.
    F32,
    /// Factors in bf16: the fastest such class that this processor has.
    Bf16,
    /// Factors in bf16, on processors with AVX512-BF16.
    Bf16Avx512,
    /// Factors in bf16, on processors with AMX.
    Bf16Amx,
}

impl Precision {
    /// The CPU in the class that this means here.
    pub(crate) fn cpu(self, threads: usize) -> Result<Cpu, backend::Error> {
        let bf16 = || {
            let offered = Cpu::classes().filter(|class| class.activation() == Dtype::Bf16);
            offered.last().unwrap_or(Class::CpuBf16Avx512)
        };
        let class = match self {
            Self::Auto => Cpu::fastest_class(),
            Self::F32 => Class::CpuF32,
            Self::Bf16 => bf16(),
            Self::Bf16Avx512 => Class::CpuBf16Avx512,
            Self::Bf16Amx => Class::CpuBf16Amx,
        };
        Cpu::new(class, threads)
    }
}

/// Numbers to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stored {
    /// 4 bytes.
    F32,
    /// 2 bytes.
    Bf16,
}

/// Kind of self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttentionKind {
    /// Keys and values of every head are cached.
    Dense,
    /// One low-rank row is cached.
    Mla,
}

/// Reads the process' arguments.
pub(crate) fn parse() -> Result<Args, Refusal> {
    read(std::env::args_os())
}

fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, Refusal> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Args::try_parse_from(&arguments).map_err(|error| Refusal { error, arguments })
}

/// A line that asks for no command: help, the version, or a mistake.
#[derive(Debug)]
pub(crate) struct Refusal {
    error: clap::Error,
    arguments: Vec<OsString>,
}

impl Refusal {
    /// Prints what was asked for, or what is wrong.
    pub(crate) fn show(&self) -> ExitCode {
        let text = self.error.render().to_string();
        let kind = self.error.kind();
        if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return terminal::conclude(terminal::result(&text));
        }
        if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            terminal::say(text.trim_end());
            return 2.into();
        }
        let failure = Failure::Input(self.message());
        if self.generates() && self.arguments.iter().any(|argument| argument == "--json") {
            generate::refuse(&failure);
        }
        terminal::conclude(Err(failure))
    }

    /// What clap says on several lines, without its usage, on one.
    fn message(&self) -> String {
        let text = self.error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let lines =
            lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
        let mut message = lines.collect::<Vec<_>>().join(" ").replace(" tip: ", "; ");
        message.push_str(match self.has_loose_word() {
            true => "; put the prompt in quotes",
            false => "; try --help",
        });
        message
    }

    /// Whether a prompt without quotes fell apart into words.
    fn has_loose_word(&self) -> bool {
        let found = self.error.get(ContextKind::InvalidArg);
        let is_word = matches!(found, Some(ContextValue::String(word)) if !word.starts_with('-'));
        self.generates() && is_word && self.error.kind() == ErrorKind::UnknownArgument
    }

    fn generates(&self) -> bool {
        self.arguments.get(1).is_some_and(|command| command == "generate")
    }
}

/// A parser of whole numbers within `range`, whose errors say so.
pub(crate) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        let refused = || format!("give a whole number from {} to {}", range.start(), range.end());
        number.and_then(|number| T::try_from(number).ok()).ok_or_else(refused)
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let sides = text.split_once(['x', 'X', '×']);
    let numbers = sides.and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)));
    match numbers {
        Some((width, height))
            if (1..=SIDE_MAX).contains(&width) && (1..=SIDE_MAX).contains(&height) =>
        {
            Ok(Size { width, height })
        }
        _ => Err(format!("give width and height of 1 to {SIDE_MAX}, such as 832x480")),
    }
}

/// Larger pictures are a slip of the keyboard.
const SIDE_MAX: usize = 1 << 14;

const EXAMPLES: &str = "\
Examples:
  filmloom generate \"a large red ball bounces over green hills\" --seconds 60 -o ball.mp4
  filmloom plan --model videomla-1.3b --seconds 60
  filmloom model inspect Wan2.1-T2V-1.3B-Diffusers";

const GENERATE_EXAMPLES: &str = "\
Examples:
  filmloom generate \"a large red ball bounces over green hills\" -o ball.mp4
  filmloom generate \"a gold star spins in a starry night\" --seconds 1m --seed 7 -o star.webp
  filmloom generate \"a red ball bounces\" --prompt-at 20s \"a blue cube spins\" -s 40 -o two.mp4
  filmloom generate \"a green ring\" -o pictures/ --json | jq .event";

const PLAN_EXAMPLES: &str = "\
Examples:
  filmloom plan --seconds 60
  filmloom plan --model videomla-1.3b --seconds 60
  filmloom plan --model wan-14b --attention mla --size 1280x720 --json
  filmloom plan --server boxA:7842 --seconds 60 --jobs 2";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn mistakes_are_one_line_with_advice() {
        for (line, expected) in [
            ("generate a -o a.mp4 --sede 3", "unexpected argument '--sede' found; a similar"),
            ("generate", "required arguments were not provided"),
            ("generate a -o a.mp4 --seconds soon", "such as 20, 2.5s or 1m30s"),
            ("generate a -o a.mp4 --size 3", "such as 832x480"),
            ("generate a -o a.mp4 --threads 0", "'0' for '--threads <N>': give a whole number"),
            ("generate a -o a.mp4 --steps -1", "'-1' for '--steps <N>': give a whole number from"),
            ("generate a -o a.mp4 --seed x", "give a whole number from 0 to 18446744073709551615"),
            ("generate a -o a.mp4 --prompt-at 1s --json", "2 values required for '--prompt-at"),
            ("generate a -o a.mp4 --json --quiet", "cannot be used with"),
            ("plan --jobs 2", "arguments were not provided: --server <URL>"),
            ("plan --server a:1 --jobs 0", "give a whole number from 1 to 1000"),
            ("plan --server a:1 --attention mla", "cannot be used with '--attention"),
            ("plan --server a:1 --precision f32", "cannot be used with '--precision"),
            ("generate a red ball -o a.mp4", "'red' found; put the prompt in quotes"),
            ("paint", "unrecognized subcommand 'paint'"),
        ] {
            let refusal = read_line(line).unwrap_err();

            let message = refusal.message();
            assert!(message.contains(expected), "{line}: {message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(!message.contains("Usage"), "{message}");
        }
    }

    #[test]
    fn negative_seconds_reach_the_check_that_explains_them() {
        let args = read_line("generate a -o a.mp4 --seconds -3").unwrap();

        let Command::Generate(args) = args.command else { panic!("{args:?}") };
        assert_eq!(args.seconds, -3.0);
    }

    fn read_line(line: &str) -> Result<Args, Refusal> {
        read(["filmloom"].into_iter().chain(line.split(' ')).map(OsString::from))
    }
}
