//! What commands that talk to a running server need to know: its address for operations, and the operators' secret.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::outcome::CommandError;

#[derive(Debug, Args)]
pub(super) struct OperationsArgs {
    /// The route that serves the repository
    #[arg(long, value_name = "NAME")]
    pub(super) route: String,
    /// The server's address for operations
    #[arg(long, value_name = "ADDRESS", env = "WHEELPORT_OPS_LISTEN")]
    pub(super) ops_listen: SocketAddr,
    /// A file with the operators' secret, where the server wants one
    #[arg(long, value_name = "FILE", env = "WHEELPORT_OPS_SECRET_FILE")]
    ops_secret_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be read: {source}", path = path.display())]
struct UnreadableSecret {
    path: PathBuf,
    source: std::io::Error,
}

impl OperationsArgs {
    /// The operators' secret, if one is given.
    pub(super) fn secret(&self) -> Result<Option<String>, CommandError> {
        let Some(path) = &self.ops_secret_file else { return Ok(None) };
        let read = fs::read_to_string(path);
        let unreadable = |source| CommandError::usage(UnreadableSecret { path: path.clone(), source });
        read.map(|text| Some(text.trim().to_owned())).map_err(unreadable)
    }
}
