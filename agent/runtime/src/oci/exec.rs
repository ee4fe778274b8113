//! `exec`: one more process in a running container, behind the same filters.

use std::path::Path;

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use liboci_cli::Exec;
use nix::unistd::Pid;

use super::{
    During, Result,
    create::{block_forwarded, filters, read_spec, wait_for},
    load,
};
use crate::{executor::SeccompExecutor, sys};

pub(super) fn exec(args: &Exec, root: &Path) -> Result<i32> {
    let signals = block_forwarded()?;
    let container = load(&args.container_id, root)?;
    let spec = read_spec(container.bundle())?;
    let executor = SeccompExecutor { filters: filters(&spec, root)?, report: None, die_with_parent: false };
    if nix::unistd::geteuid().is_root() {
        // A process without additional groups would inherit ours.
        nix::unistd::setgroups(&[]).during("give up the caller's groups")?;
    }
    let (user, group) = args.user.map_or((None, None), |(user, group)| (Some(user), group));
    sys::interrupt_after(std::time::Duration::from_secs(120)).during("set a timer")?;
    let pid = ContainerBuilder::new(args.container_id.clone(), SyscallType::default())
        .with_root_path(root)?
        .with_executor(executor)
        .with_console_socket(args.console_socket.clone())
        .with_pid_file(args.pid_file.clone())?
        .with_preserved_fds(args.preserve_fds)
        .validate_id()?
        .as_tenant()
        .with_detach(args.detach)
        .with_cwd(args.cwd.clone())
        .with_env(args.env.iter().cloned().collect())
        .with_process(args.process.clone())
        .with_no_new_privs(args.no_new_privs)
        .with_capabilities(args.cap.clone())
        .with_additional_gids(args.additional_gids.clone())
        .with_user(user)
        .with_group(group)
        .with_apparmor(args.apparmor.clone())
        .with_process_label(args.process_label.clone())
        .with_ignore_paused(args.ignore_paused)
        .with_sub_cgroup(args.cgroup.clone())
        .with_container_args(args.command.clone())
        .build();
    sys::interrupt_after(std::time::Duration::ZERO).during("stop a timer")?;
    // The process is our child: unless it is reaped, the container's init can never end. When detached, we end and
    // whoever reaps orphans on this machine does it.
    let pid = Pid::from_raw(pid?.as_raw());
    if args.detach { Ok(0) } else { wait_for(pid, &signals) }
}
