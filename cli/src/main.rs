//! The `filmloom` binary.

fn main() -> std::process::ExitCode {
    filmloom::run()
}
