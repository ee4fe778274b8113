//! Devices that do anything in any order: whatever happens, nothing is paid twice or too much, the books add up, and
//! every task ends.

use std::time::Duration;

use proptest::prelude::*;
use sosna_protocol::{
    Amount,
    message::{result::Judgement, result::Reveal, work::Reason},
    topic::Kind,
};
use sosna_store::AssignmentState;

use crate::{
    device::{Device, Offer, Told},
    world::World,
};

#[derive(Debug, Clone, Copy)]
enum Act {
    Accept,
    Refuse,
    Fail,
    Commit { honest: bool },
    Reveal,
    RevealOther,
    Beat,
    Hello,
    LoseData,
    Again,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Accept),
        1 => prop::bool::ANY.prop_map(|some| if some { Act::Refuse } else { Act::Fail }),
        6 => prop::bool::weighted(0.7).prop_map(|honest| Act::Commit { honest }),
        6 => Just(Act::Reveal),
        1 => Just(Act::RevealOther),
        1 => Just(Act::Beat),
        2 => Just(Act::Hello),
        1 => Just(Act::LoseData),
        2 => Just(Act::Again),
        1 => prop::sample::select(vec![15_000, 61_000, 301_000]).prop_map(Act::Pass),
    ]
}

struct Actor {
    device: Device,
    work: Vec<(Offer, Option<Reveal>)>,
    last: Option<(Kind, Vec<u8>)>,
}

impl Actor {
    fn new(device: Device) -> Self {
        Self { device, work: Vec::new(), last: None }
    }

    fn listen(&mut self, world: &World) {
        while let Some(offer) = self.device.offer_already(world) {
            if !self.work.iter().any(|(known, _)| known.id == offer.id) {
                self.work.push((offer, None));
            }
        }
    }

    async fn act(&mut self, world: &World, act: Act) {
        self.listen(world);
        let Some((offer, shown)) = self.work.last().copied() else {
            if let Act::Hello = act {
                self.device.hello(world).await;
            }
            return;
        };
        let said = match act {
            Act::Accept => {
                let accept = sosna_protocol::message::work::Accept { assignment: offer.id };
                Some((Kind::Work, self.device.say(world, &accept).await))
            }
            Act::Refuse => {
                self.device.refuse(world, &offer, Reason::NoRoom).await;
                None
            }
            Act::Fail => {
                self.device.fail(world, &offer).await;
                None
            }
            Act::Commit { honest } => {
                let result =
                    if honest { "the truth".to_owned() } else { format!("{}", self.device.address()) };
                let reveal = self.device.outcome(world, &offer, &result).await;
                let commit = self.device.commitment(world, &reveal);
                if shown.is_none() {
                    self.work.last_mut().unwrap().1 = Some(reveal);
                }
                Some((Kind::Result, self.device.say(world, &commit).await))
            }
            Act::Reveal => match shown {
                Some(reveal) => Some((Kind::Result, self.device.say(world, &reveal).await)),
                None => None,
            },
            Act::RevealOther => {
                let reveal = self.device.outcome(world, &offer, "something else").await;
                Some((Kind::Result, self.device.say(world, &reveal).await))
            }
            Act::Beat => {
                self.device.beat(world, &[offer.id]).await;
                None
            }
            Act::Hello => {
                self.device.hello(world).await;
                None
            }
            Act::LoseData => {
                self.device.held.clear();
                self.work.clear();
                self.device.hello(world).await;
                None
            }
            Act::Again => {
                if let Some((kind, frame)) = &self.last {
                    self.device.give(world, *kind, frame).await.unwrap();
                }
                None
            }
            Act::Pass(ms) => {
                world.pass(ms);
                None
            }
        };
        if said.is_some() {
            self.last = said;
        }
    }

    /// Does what is to be done of everything that was offered, as an honest device.
    async fn work(&mut self, world: &World) {
        let mut closed = Vec::new();
        while let Some(told) = self.device.told_already(world, |told| {
            matches!(told, Told::Assign(_) | Told::Closed(_)).then(|| told.clone())
        }) {
            match told {
                Told::Assign(offer) if !self.work.iter().any(|(known, _)| known.id == offer.id) => {
                    self.device.held.push(offer.id);
                    self.device.accept(world, &offer).await;
                    let shown = if offer.commits {
                        self.device.commit(world, &offer, "the truth").await
                    } else {
                        let shown = self.device.outcome(world, &offer, "the truth").await;
                        self.device.reveal(world, &shown).await;
                        shown
                    };
                    self.work.push((offer, Some(shown)));
                }
                Told::Closed(id) => closed.push(id),
                _ => {}
            }
        }
        for id in closed {
            let shown = self.work.iter().find_map(|(offer, shown)| shown.filter(|_| offer.id == id));
            if let Some(shown) = shown {
                self.device.reveal(world, &shown).await;
            }
        }
    }
}

async fn run(replicas: u32, budget: Amount, acts: Vec<(usize, Act)>) {
    let world = World::with(|config| {
        config.limits.attempts = 4;
        config.probation.check_budget = budget.into();
    })
    .await;
    let mut actors: Vec<Actor> = world.devices(3).await.into_iter().map(Actor::new).collect();
    let job = world.submit(2, replicas).await;
    for (place, act) in acts {
        tokio::time::sleep(Duration::from_millis(4)).await;
        actors[place].act(&world, act).await;
    }
    // From now on some honest devices are there; the others are silent.
    let mut honest: Vec<Actor> = world.devices(6).await.into_iter().map(Actor::new).collect();
    let mut rounds = 0;
    while !world.job(job).await.state.is_final() {
        for actor in &mut honest {
            actor.work(&world).await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        rounds += 1;
        if rounds % 20 == 0 {
            world.pass(150_000);
        }
        assert!(
            rounds < 800,
            "tasks that never end: {:?} {:?}",
            world.tasks(job).await,
            world.assignments(job).await
        );
    }
    world.ended(job).await;

    let job = world.job(job).await;
    let assignments = world.assignments(job.id).await;
    let mut spent = Amount::ZERO;
    for task in world.tasks(job.id).await {
        let paid: Vec<_> = assignments
            .iter()
            .filter(|one| one.task == task.id && one.judgement == Some(Judgement::Accepted))
            .collect();
        // A device on probation may be checked by one more, whom the operator pays.
        let most = if task.check.is_some() { 2 } else { replicas as usize };
        assert!(paid.len() <= most, "{paid:?}");
        assert!(
            paid.iter()
                .all(|one| one.owed == one.price && one.revealed.unwrap().root == task.end.unwrap().root)
        );
        let mut owners: Vec<_> = paid.iter().map(|one| one.owner).collect();
        owners.sort();
        owners.dedup();
        assert_eq!(owners.len(), paid.len(), "one owner was paid twice for one task");
        for one in paid {
            spent = spent.checked_add(one.price).unwrap();
        }
    }
    let mut expense = Amount::ZERO;
    for (name, taken, given) in world.read(|tx| Box::pin(async move { Ok(tx.accounts().await?) })).await {
        if name.starts_with("verification:") {
            let day = given.checked_sub(taken).unwrap();
            assert!(day <= budget, "the operator paid {day} on one day");
            expense = expense.checked_add(day).unwrap();
        }
        assert!(!name.starts_with("check:") || taken == given, "{name} holds what nobody needs any more");
    }
    assert_eq!(job.spent.checked_add(expense).unwrap(), spent);
    assert!(job.spent <= job.reserved);
    let mut earned = Amount::ZERO;
    for actor in actors.iter().chain(&honest) {
        earned = earned.checked_add(world.earned(&actor.device).await).unwrap();
    }
    assert_eq!(earned, spent, "what devices have is what the job has cost");
    assert!(assignments.iter().all(|one| !one.state.is_open() || one.state == AssignmentState::Judged));
    assert!(world.hub.fleet().devices().iter().all(|live| live.open == 0 && live.taken.cpu_millis == 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 14, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_anything(
        replicas in 1_u32..=2,
        budget in prop::sample::select(vec!["0", "0.015", "1"]),
        acts in prop::collection::vec((0_usize..3, act()), 0..50),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(replicas, budget.parse().unwrap(), acts));
    }
}
