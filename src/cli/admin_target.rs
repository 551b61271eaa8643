//! Which server an operator's command asks, and with which key.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::admin_client::{AdminClient, AdminEndpoint, AdminError, reachable};
use crate::settings::table::Admin;

#[derive(Debug, Args)]
pub(super) struct AdminTarget {
    /// Address of the server's admin.listen.
    #[arg(long, global = true, value_name = "HOST:PORT", conflicts_with = "socket")]
    address: Option<String>,
    /// Path of the server's admin.listen, if that is a unix socket.
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// File with the key. Default: admin.key_file of the configuration.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the server's answer as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl AdminTarget {
    /// What the options leave open is as in the configuration.
    pub(super) fn client(&self, config: &Admin) -> Result<AdminClient, AdminError> {
        let endpoint = match (&self.socket, &self.address, &config.listen) {
            (Some(path), ..) => AdminEndpoint::Unix(path.clone()),
            (None, Some(address), _) => AdminEndpoint::Tcp(address.clone()),
            (None, None, Some(listen)) => reachable(&listen.endpoint),
            (None, None, None) => return Err(AdminError::NoListener),
        };
        let key_file = self.key_file.as_deref().or(config.key_file.as_ref().map(Path::new));
        AdminClient::new(endpoint, key_file)
    }
}
