//! `sosna-image run`.

use sosna_image::Error;
use sosna_image::run::{self, Network, Options};

use super::args::{PackageArgs, RunArgs};

pub(super) fn run(packages: &PackageArgs, args: &RunArgs) -> Result<(), Error> {
    let options = Options {
        snapshot: args.snapshot,
        memory: args.memory,
        forward: args.forward.clone(),
        serial: args
            .serial
            .as_ref()
            .map_or_else(|| "stdio".to_owned(), |path| format!("file:{}", path.display())),
        network: Network::User,
        control: args.control.clone(),
        kvm: args.kvm,
    };
    let mut machine = run::prepare(&args.image, &options, &packages.folder(), &|text| eprintln!("{text}"))?;
    eprintln!("starting; Ctrl-C ends the machine");
    let status = machine.command.status().map_err(Error::io("start", machine.command.get_program()))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Refused(format!("QEMU ended with {status}")))
}
