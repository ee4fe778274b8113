//! Both stages on a real kernel in an emulated machine, without boot loader and firmware: those belong to the images'
//! own tests. `SOSNA_TEST_CONSOLE=1` shows what the machines say.
#![allow(clippy::unwrap_used, reason = "tests")]

mod disk;
mod kit;
mod machine;

use disk::{Disk, Wishes};
use kit::kit;
use machine::Machine;

#[test]
fn a_slot_with_one_wrong_bit_is_refused_and_named() {
    let Some(kit) = kit("a_slot_with_one_wrong_bit_is_refused_and_named") else { return };
    let disk = Disk::make(kit, &Wishes::default());
    disk.flip_a_bit();
    let machine = Machine::start(kit, &disk, "one wrong bit", "", &["-nic", "none"]);
    let said = machine.end();
    assert!(said.contains("slot a on /dev/vda2 is refused"), "{said}");
    assert!(said.contains("restarts in 10 seconds"), "{said}");
    assert!(!said.contains("stand-in"), "{said}");
}
