//! The program. Everything is in the library, where it is compiled once.

fn main() -> std::process::ExitCode {
    wheelport::process::run()
}
