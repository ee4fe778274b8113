//! Takes a job: checks it, settles what was left open, sets its price aside, splits it into tasks.

use std::sync::Arc;

use sosna_api::{
    Code,
    job::{ImageSpec, MAX_TASKS, NewJob},
};
use sosna_protocol::{
    Amount, Hash,
    hash::sha256,
    identity::{JobId, TaskId},
    message::work::{MAX_ITEMS, MAX_TEXT, Network},
};
use sosna_store::{Account, Job, JobState, NewJob as StoredJob, Transfer};

use super::JobSpec;
use crate::{
    content::owned_length,
    error::HubError,
    hub::{Effect, Event, Hub},
    registry,
};

/// The shortest time-out: less than a container takes to start helps nobody.
const MIN_TIMEOUT_MS: u64 = 1_000;
/// The most bytes that all texts of a task may have together: an assignment is one frame.
const MAX_TEXTS: usize = 100 * 1024;
/// The longest path in a container.
const MAX_PATH: usize = 1024;
/// The longest name of a job, an image or a region: it is kept with the job, and read with each of its tasks.
const MAX_NAME: usize = 512;
/// The least memory a container starts in.
const MIN_MEMORY: u64 = 4 << 20;

/// A job that was submitted, now or earlier under the same key.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// The job.
    pub job: Job,
    /// Whether it was made now.
    pub fresh: bool,
}

impl Hub {
    /// Takes a job for a buyer. The same key and content make it once.
    ///
    /// # Errors
    /// [`HubError::Refused`] with what is wrong and what to do.
    pub async fn submit(
        self: &Arc<Self>,
        buyer: &str,
        idempotency: &str,
        request: NewJob,
    ) -> Result<Submitted, HubError> {
        let request_hash =
            sha256(&serde_json::to_vec(&request).map_err(|error| HubError::internal("a job", error))?);
        if let Some(job) = self.submitted_before(buyer, idempotency, request_hash).await? {
            return Ok(Submitted { job, fresh: false });
        }
        let request = self.settle(request)?;
        let arch = request.arch.map(|arch| arch.0);
        let resolved = registry::resolve(self, &request.image, arch).await?;
        // From the look at what is there until the job names it, nothing of it may go.
        let _steady = self.keeping.steady().await;
        let resolved = match resolved {
            Some(resolved) => resolved,
            None => registry::resolve_here(self, buyer, &request.image, arch).await?,
        };
        self.check_inputs(buyer, &request).await?;
        let inputs = request.inputs.iter().map(|input| input.sha256.0);
        let content: Vec<Hash> = resolved.content.into_iter().chain(inputs).collect();
        let spec = JobSpec { request, images: resolved.images };
        let cap = self.price_cap(&spec)?;
        let replicas = u128::from(spec.request.tasks) * u128::from(spec.replicas());
        let too_dear =
            || HubError::refused(Code::Invalid, "the job's price is larger than any amount can be");
        let reserved = match spec.request.max_price {
            Some(most) => most.0,
            None => cap.checked_mul(replicas).ok_or_else(too_dear)?,
        };
        let job = Job {
            id: JobId(sosna_host::random()),
            buyer: buyer.to_owned(),
            name: spec.request.name.clone().unwrap_or_default(),
            spec: spec.to_json(),
            request_hash,
            state: JobState::Queued,
            tasks: spec.request.tasks,
            reserved,
            spent: Amount::ZERO,
            cap,
            image_class: spec.image_class(),
            created_ms: self.now_ms(),
            ended_ms: None,
        };
        let new = StoredJob { job, idempotency: idempotency.to_owned(), content };
        let replicas = spec.replicas();
        self.metrics.jobs_submitted.add_one();
        self.change(move |tx, _| {
            Box::pin(async move {
                // Two requests under one key may have come this far together.
                if let Some(job) = tx.job_by_key(&new.job.buyer, &new.idempotency).await? {
                    return same_request(job, new.job.request_hash)
                        .map(|job| (Submitted { job, fresh: false }, Vec::new()));
                }
                tx.put_job(&new).await?;
                let job = new.job;
                tx.transfer(&Transfer {
                    key: format!("reserve:{}", job.id),
                    kind: "reserve",
                    from: Account::Buyer(job.buyer.clone()),
                    to: Account::Job(job.id),
                    amount: job.reserved,
                    job: Some(job.id),
                    assignment: None,
                    at_ms: job.created_ms,
                })
                .await?;
                for place in 0..job.tasks {
                    tx.put_task(&TaskId(sosna_host::random()), &job.id, place, replicas).await?;
                }
                let effects = vec![Effect::Event(Event::Job(job.id)), Effect::Schedule];
                Ok((Submitted { job, fresh: true }, effects))
            })
        })
        .await
    }

    async fn submitted_before(
        &self,
        buyer: &str,
        idempotency: &str,
        request_hash: Hash,
    ) -> Result<Option<Job>, HubError> {
        let (buyer, idempotency) = (buyer.to_owned(), idempotency.to_owned());
        let found = self
            .store
            .read(|tx| {
                Box::pin(async move { tx.job_by_key(&buyer, &idempotency).await.map_err(HubError::from) })
            })
            .await?;
        found.map(|job| same_request(job, request_hash)).transpose()
    }

    /// Checks what can be checked without asking anybody, and fills in defaults.
    fn settle(&self, mut request: NewJob) -> Result<NewJob, HubError> {
        let invalid = |detail: String| HubError::refused(Code::Invalid, detail);
        let limits = &self.config.limits;
        if request.tasks == 0 || request.tasks > MAX_TASKS {
            return Err(invalid(format!("a job has 1 to {MAX_TASKS} tasks, not {}", request.tasks)));
        }
        if request.timeout_ms < MIN_TIMEOUT_MS || request.timeout_ms > limits.timeout_ms {
            return Err(invalid(format!(
                "a task's time-out is {MIN_TIMEOUT_MS} to {} ms, not {}",
                limits.timeout_ms, request.timeout_ms
            )));
        }
        if request.resources.cpu_millis == 0 || request.resources.memory < MIN_MEMORY {
            return Err(invalid(format!(
                "a task needs some processor time and at least {MIN_MEMORY} bytes of memory"
            )));
        }
        if request.network.0 == Network::Internet {
            return Err(invalid("networks other than `none` are not available in this version".to_owned()));
        }
        request.resources.inodes.get_or_insert(limits.inodes);
        request.resources.pids.get_or_insert(limits.pids);
        request.log_bytes.get_or_insert(limits.log_bytes);

        let lists = [
            ("entry point", request.entrypoint.len()),
            ("command", request.command.len()),
            ("environment", request.env.len()),
            ("inputs", request.inputs.len()),
            ("outputs", request.outputs.len()),
        ];
        if let Some((what, length)) = lists.iter().find(|(_, length)| *length > MAX_ITEMS) {
            return Err(invalid(format!("the {what} may have {MAX_ITEMS} items, not {length}")));
        }
        let texts = request.entrypoint.iter().chain(&request.command).chain(&request.outputs);
        let pairs = request.env.iter().map(|(key, value)| key.len() + value.len() + 1);
        if texts.map(String::len).chain(pairs).any(|length| length > MAX_TEXT) {
            return Err(invalid(format!(
                "arguments, paths and environment entries have at most {MAX_TEXT} bytes"
            )));
        }
        let texts =
            request.entrypoint.iter().chain(&request.command).chain(&request.outputs).map(String::len);
        let pairs = request.env.iter().map(|(key, value)| key.len() + value.len() + 1);
        // The rest of an input is its name and length.
        let inputs = request.inputs.iter().map(|input| input.destination.len() + 64);
        if texts.chain(pairs).chain(inputs).sum::<usize>() > MAX_TEXTS {
            return Err(invalid(format!(
                "arguments, environment, inputs and outputs may have {MAX_TEXTS} bytes together; \
                put more than that into an input file"
            )));
        }
        let image = match &request.image {
            ImageSpec::Reference(reference) => Some(reference),
            ImageSpec::Content(image) => image.name.as_ref(),
        };
        if [request.name.as_ref(), request.region.as_ref(), image]
            .iter()
            .flatten()
            .any(|n| n.len() > MAX_NAME)
        {
            return Err(invalid(format!(
                "names of a job, an image and a region have at most {MAX_NAME} bytes"
            )));
        }
        let destinations = request.inputs.iter().map(|input| &input.destination);
        if destinations.chain(&request.working_dir).any(|path| path.len() > MAX_PATH) {
            return Err(invalid(format!(
                "inputs' destinations and the working folder have at most {MAX_PATH} bytes"
            )));
        }
        if let Some(key) = request.env.keys().find(|key| key.is_empty() || key.contains(['=', '\0'])) {
            return Err(invalid(format!("`{key}` cannot be the name of an environment variable")));
        }
        let paths = request.outputs.iter().chain(request.inputs.iter().map(|input| &input.destination));
        if let Some(path) = paths.chain(&request.working_dir).find(|path| !is_clean_path(path)) {
            return Err(invalid(format!(
                "`{path}` must be an absolute path without `.`, `..` or empty parts"
            )));
        }
        Ok(request)
    }

    /// Inputs must be here, and must have been sent by the buyer: who knows a hash need not have what it is of.
    async fn check_inputs(&self, buyer: &str, request: &NewJob) -> Result<(), HubError> {
        for input in &request.inputs {
            match owned_length(self, buyer, &input.sha256).await? {
                Some(length) if length == input.length => {}
                Some(length) => {
                    let detail =
                        format!("the input {} has {length} bytes, not {}", *input.sha256, input.length);
                    return Err(HubError::refused(Code::WrongDigest, detail));
                }
                None => {
                    let detail = format!(
                        "the input {} is not here, or was not sent by you; upload it first",
                        *input.sha256
                    );
                    return Err(HubError::refused(Code::MissingContent, detail));
                }
            }
        }
        Ok(())
    }

    /// The most that one replica of one task may cost: what the buyer's limit leaves for each, or what the dearest
    /// suitable device asks.
    fn price_cap(&self, spec: &JobSpec) -> Result<Amount, HubError> {
        let resources = spec.resources();
        let fleet = self.fleet();
        let known: Vec<_> = fleet.devices().iter().filter(|live| live.is_employable()).collect();
        let suitable: Vec<_> = known
            .iter()
            .map(|live| &live.device.described)
            .filter(|described| spec.image(described.class.arch).is_some())
            .filter(|described| described.resources.covers(&resources))
            .collect();
        if suitable.is_empty() && !known.is_empty() {
            let detail = format!(
                "none of the {} devices here is of an architecture that the image is for and lends as much as a task asks for (cores, memory, disk, files, processes); ask for less",
                known.len()
            );
            return Err(HubError::refused(Code::ImpossibleResources, detail));
        }
        let replicas = u128::from(spec.request.tasks) * u128::from(spec.replicas());
        if let Some(most) = spec.request.max_price {
            return Ok(Amount::from_units(most.units() / replicas));
        }
        let prices =
            suitable.iter().map(|described| described.ask.price(&resources, spec.request.timeout_ms));
        prices.collect::<Option<Vec<_>>>().and_then(|prices| prices.into_iter().max()).ok_or_else(|| {
            HubError::refused(
                Code::Invalid,
                "no suitable device has named a price yet; say what the job may cost with --max-price",
            )
        })
    }
}

fn same_request(job: Job, request_hash: Hash) -> Result<Job, HubError> {
    if job.request_hash == request_hash {
        return Ok(job);
    }
    let detail = format!("the key made job {} of another request; choose a new key for a new job", job.id);
    Err(HubError::refused(Code::KeyReused, detail))
}

fn is_clean_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        !path.contains('\0') && rest.split('/').all(|part| !matches!(part, "" | "." | ".."))
    })
}
