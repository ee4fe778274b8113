//! One container from request to record.

use std::{io::Read, os::unix::net::UnixListener, time::Instant};

use nix::{sched::CloneFlags, sys::wait::WaitStatus};

use super::{
    Request, START_FAILED, STARTED,
    control::Client,
    create::{self, Failure},
    logs::Stream,
    outputs,
    supervise::{End, Watch},
};
use crate::{
    cgroup::{Group, Hierarchies},
    enforcement::UserMapping,
    error::At,
    executor,
    record::{EndCause, ExitRecord, Usage, now_ms},
    stage::{self, Plan, Stage},
    sys, uids,
};

/// Runs the container to its end.
///
/// The connections of agents that wait come back too: they are to be closed when the record is written.
pub(super) fn container(
    request: &Request,
    listener: &UnixListener,
) -> Result<(ExitRecord, Vec<Client>), Failure> {
    let spec = &request.spec;
    let e = &request.settings.enforcement;
    if e.users == UserMapping::Range && request.range_first.is_none() {
        return Err(Failure { exit_code: START_FAILED, message: "no range of user ids was assigned".into() });
    }
    if e.rootless {
        stage::own_users()?;
    } else {
        stage::own_mounts(CloneFlags::empty())?;
        Hierarchies::hide_unused();
    }
    let group = Hierarchies::usable(e.cgroups).group(&request.settings.group_of(&spec.id));
    // What a shim before us left under the same name must not be counted as this container's.
    super::sweep(&request.settings, &spec.id)?;
    let mut stage = Stage::build(&Plan {
        spec,
        range: request.range_first.map(|first| (first, uids::WIDTH)),
        rootless: e.rootless,
        disk: e.disk,
        scratch: &request.settings.data_dir.join("scratch"),
        sources: request.settings.sources.as_ref(),
        keep: &[&request.task_dir, &request.state_dir, &request.settings.data_dir],
    })?;
    if e.rootless {
        stage = stage.become_root(&[&request.settings.data_dir, &request.state_dir])?;
    }
    sosna_fault::passed("shim/create");
    let mut created = create::create(request, &stage)?;
    sosna_fault::passed("shim/created");
    let limit = spec.limits.log_bytes;
    let log = |pipe, name: &str| {
        let path = request.task_dir.join(name);
        Stream::new(pipe, &path, limit).at("write the log", path)
    };
    let streams = [log(created.stdout, "stdout")?, log(created.stderr, "stderr")?];
    let marker = request.task_dir.join(STARTED);
    std::fs::write(&marker, "").at("write", &marker)?;

    let started_at_ms = now_ms();
    let started = Instant::now();
    let pidfd = sys::pidfd(created.init).at("watch", spec.id.as_str())?;
    sosna_fault::passed("shim/start");
    created.container.start()?;
    sosna_fault::passed("shim/started");
    let mut watch = Watch {
        init: created.init,
        pidfd,
        streams,
        listener,
        group: &group,
        scratch: &stage.scratch,
        started,
        wall: spec.limits.wall,
    };
    sosna_privsep::drop_code_pages();
    let (end, clients) = watch.run();
    sosna_fault::passed("shim/ended");

    let mut report = Vec::new();
    let _ = created.report.read_to_end(&mut report);
    let (cause, exit_code) = verdict(&end, &group, &report);
    let [mut stdout, mut stderr] = watch.streams;
    stdout.finish();
    stderr.finish();
    let usage = Usage {
        cpu_ns: group.cpu_ns(),
        peak_memory_bytes: group.peak_memory(),
        wall_ms: u64::try_from(end.wall.as_millis()).unwrap_or(u64::MAX),
    };
    let collected = if spec.outputs.is_empty() {
        Ok(Default::default())
    } else {
        let to = request.task_dir.join(super::OUTPUTS);
        let l = &spec.limits;
        outputs::collect(&stage.merged, &spec.outputs, &to, l.disk_bytes, l.disk_inodes)
    };
    let logs = [("stdout", stdout.failed.take()), ("stderr", stderr.failed.take())];
    let logs = logs.into_iter().filter_map(|(name, failed)| Some(format!("{name}: {}", failed?)));
    let mut not_kept: Vec<String> = logs.collect();
    let (outputs, output_problems) = collected
        .map_err(|error: std::io::Error| not_kept.push(format!("outputs: {error}")))
        .unwrap_or_default()
        .into_parts();
    let record = ExitRecord {
        cause,
        exit_code,
        usage,
        stdout_bytes: stdout.total,
        stderr_bytes: stderr.total,
        stdout_dropped: stdout.dropped,
        stderr_dropped: stderr.dropped,
        outputs,
        output_problems,
        not_kept: (!not_kept.is_empty()).then(|| not_kept.join("; ")),
        started_at_ms,
        ended_at_ms: now_ms(),
        ..ExitRecord::without_run(spec.id.clone(), EndCause::Lost, 0)
    };
    Ok((record, clients))
}

/// Tells the causes apart: what we did first, then what the kernel did, then what the program did.
fn verdict(end: &End, group: &Group, report: &[u8]) -> (EndCause, i32) {
    if let Some((code, message)) = executor::parse_report(report) {
        return (EndCause::StartFailed { message }, code);
    }
    let (by_itself, exit_code) = match end.status {
        WaitStatus::Exited(_, code) => (EndCause::Exited { code }, code),
        WaitStatus::Signaled(_, signal, _) => {
            (EndCause::Signalled { signal: signal as i32 }, 128 + signal as i32)
        }
        _ => (EndCause::Lost, -1),
    };
    let cause = if end.stopped {
        EndCause::Stopped
    } else if end.timed_out {
        EndCause::TimedOut
    } else if exit_code == 0 {
        by_itself
    } else if group.oom_kills() > 0 {
        EndCause::OutOfMemory
    } else if end.disk_full {
        EndCause::DiskFull
    } else {
        by_itself
    };
    (cause, exit_code)
}
