//! The process edge: arguments, telemetry, run mode and exit code.

fn main() {}
