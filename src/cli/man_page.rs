//! The manual page: what the command line says, and what a manual page has besides.

use std::io;

use clap::Command;
use clap_mangen::Man;

/// In roff (man(7)).
const SECTIONS: &str = r#".SH SIGNALS
.TP
.B SIGTERM, SIGINT, SIGQUIT
Stop: clients are asked to reconnect elsewhere, each at its own time. A second one stops at once.
.TP
.B SIGHUP
Read the configuration again and apply what a running server can change; the log says what that is.
.TP
.B SIGUSR2
Start the program that is on disk now, and let it take over without refusing or losing a client.
.SH FILES
.TP
.I /etc/fanline/fanline.toml
The configuration of the Debian package, given with \fB\-\-config\fR.
.SH "EXIT STATUS"
.TP
.B 0
Stopped by a signal, handed over to another process, or done.
.TP
.B 1
fanline could not go on. Start it again.
.TP
.B 2
The configuration, a profile or an option is wrong. Starting again does not help.
"#;

pub(super) fn render(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    page.extend_from_slice(SECTIONS.as_bytes());
    Ok(page)
}
