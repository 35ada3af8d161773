//! The commands, one file each. Arguments in, exit code out; everything else is behind `app` and the emulator.

pub mod emulate;
