//! After a container: settles those whose shims died, and removes what is left of those that are over.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    time::{Duration, Instant},
};

use super::{REQUEST, Reply, lock, say, sweep};
use crate::{
    durable,
    error::{At, Result, RuntimeError},
    record::{EndCause, ExitRecord},
    settings::Settings,
    spec::ContainerId,
    sys,
};

/// How long a shim may take to go after its record is there.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Settles one container, or all, and says whom.
pub(super) fn settle(state_dir: &Path, id: &str) -> i32 {
    answer((|| {
        let settings = Settings::read(state_dir)?;
        if id.is_empty() {
            return all(&settings);
        }
        let id = ContainerId::new(id)?;
        let is_settled = one(&settings, &id)?;
        Ok(is_settled.then_some(id).into_iter().collect())
    })())
}

/// Removes a container's folder, unless a shim has it.
pub(super) fn remove(state_dir: &Path, id: &str) -> i32 {
    answer((|| {
        let (settings, id) = (Settings::read(state_dir)?, ContainerId::new(id)?);
        let task_dir = settings.task_dir(&id);
        if task_dir.exists() {
            let (held, mut is_ours) = lock(&task_dir)?;
            // A shim is a moment longer there than its record.
            let until = Instant::now() + LAST_WORD;
            while !is_ours && ExitRecord::read(&task_dir)?.is_some() && Instant::now() < until {
                std::thread::sleep(LAST_WORD / 2000);
                is_ours = sys::try_lock(&held).at("lock", &task_dir)?;
            }
            if !is_ours {
                return Err(RuntimeError::Conflict { id: id.to_string() });
            }
            // The request goes first: without it the rest is only litter, which recovery removes.
            match fs::remove_file(task_dir.join(REQUEST)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e).at("remove", task_dir),
                _ => {}
            }
            sosna_fault::point("runtime/remove").at("remove", &task_dir)?;
            // While nobody can begin another one of this name.
            release(&settings, &id)?;
            durable::remove_tree(&task_dir).at("remove", &task_dir)?;
        }
        Ok(Vec::new())
    })())
}

fn answer(done: Result<Vec<ContainerId>>) -> i32 {
    let is_done = done.is_ok();
    say(&done.map_or_else(Reply::of, Reply::Done));
    i32::from(!is_done)
}

/// All of them; the first failure, after all have been tried.
fn all(settings: &Settings) -> Result<Vec<ContainerId>> {
    let mut settled = Vec::new();
    let mut failure = None;
    for id in settings.ids()? {
        match one(settings, &id) {
            Ok(true) => settled.push(id),
            Ok(false) => {}
            Err(e) => failure = failure.or(Some(e)),
        }
    }
    for id in settings.ranges().holders() {
        // A shim that died after its last word, or a removal cut short.
        let task_dir = settings.task_dir(&id);
        let is_over = !task_dir.exists() || (lock(&task_dir)?.1 && ExitRecord::read(&task_dir)?.is_some());
        if is_over {
            release(settings, &id)?;
        }
    }
    failure.map_or(Ok(settled), Err)
}

/// Settles one container if its shim is gone without a record; says whether it was so.
fn one(settings: &Settings, id: &ContainerId) -> Result<bool> {
    let task_dir = settings.task_dir(id);
    match fs::symlink_metadata(&task_dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        found => found.map(drop).at("look at", &task_dir)?,
    }
    // Held to the end: no shim begins meanwhile.
    let (_lock, is_ours) = lock(&task_dir)?;
    if !is_ours || ExitRecord::read(&task_dir)?.is_some() {
        return Ok(false);
    }
    sweep(settings, id)?;
    release(settings, id)?;
    if !task_dir.join(REQUEST).exists() {
        // An agent died before anything was promised: there is nothing to tell.
        durable::remove_tree(&task_dir).at("remove", task_dir)?;
        return Ok(false);
    }
    ExitRecord::without_run(id.clone(), EndCause::Lost, -1).write(&task_dir)?;
    Ok(true)
}

fn release(settings: &Settings, id: &ContainerId) -> Result<()> {
    settings.ranges().release(id)?;
    let state_dir = settings.state_of(id);
    durable::remove_tree(&state_dir).at("remove", state_dir)
}
