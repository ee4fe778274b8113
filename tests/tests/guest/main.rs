//! Whole machines: an image with the real agent boots in QEMU from its file, through firmware and boot loader where the
//! board has them, and lives on through what befalls devices. A run has one kind of device: its first boot and its second,
//! and one thing that can go wrong with it (`SOSNA_TEST_ALL=1` runs all of them).
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod clocks;
mod data;
mod lives;
mod network;
mod restarts;
mod scene;
mod verity;

/// On `x86_64-uefi-cloud`, whose kernel starts sooner: these do not depend on the board.
mod pc {
    use super::{clocks, data, network, restarts, verity};

    const QUICK: &str = "x86_64-uefi-cloud";

    xtask::rotated! {
        "faults of a PC" of "x86_64-uefi";
        pc_meets_its_hub_later => network::meets_its_hub_later, QUICK;
        pc_without_a_card_says_so => network::has_no_card, QUICK;
        pc_without_an_answer_to_dhcp_says_so => network::hears_nothing, QUICK;
        pc_without_a_cable_says_so_and_takes_one => network::has_no_cable, QUICK;
        pc_learns_the_time_thirty_years_late => clocks::are_wrong, QUICK, ["1996-03-01", "2056-03-01"];
        pc_learns_the_time_thirty_years_early => clocks::are_wrong, QUICK, ["2056-03-01", "1996-03-01"];
        pc_with_a_full_disk_waits_for_room => data::is_full, QUICK;
        pc_with_an_overwritten_data_area_waits_for_its_owner => data::is_overwritten, QUICK;
        pc_repairs_rot_by_itself => data::rots_a_little, QUICK;
        pc_with_worse_rot_waits_for_its_owner => data::rots_more, QUICK;
        pc_without_a_data_area_says_so => data::is_missing, QUICK;
        pc_goes_on_with_its_task_after_a_power_cut => restarts::power_cut, QUICK;
        pc_goes_on_with_its_task_after_an_orderly_restart => restarts::orderly, QUICK;
        pc_brings_its_result_after_its_lease => restarts::lease_over, QUICK;
        pc_refuses_a_slot_with_a_wrong_bit => verity::data_bit, QUICK;
        pc_goes_on_without_what_it_cannot_read => verity::unneeded_bit, QUICK;
        pc_refuses_a_wrong_hash_tree => verity::tree_bit, QUICK;
        pc_refuses_a_wrong_root_hash => verity::root_hash, QUICK;
        pc_with_a_wrong_bit_in_its_kernel => verity::kernel_bit, QUICK;
        pc_with_a_wrong_bit_where_its_kernel_does_not_care => verity::idle_kernel_bit, QUICK;
    }
}

mod arm {
    use super::{data, network, restarts, verity};

    const BOARD: &str = "arm64-uefi";

    xtask::rotated! {
        "faults of an ARM machine" of "arm64-uefi";
        arm_meets_its_hub_later => network::meets_its_hub_later, BOARD;
        arm_without_an_answer_to_dhcp_says_so => network::hears_nothing, BOARD;
        arm_with_worse_rot_waits_for_its_owner => data::rots_more, BOARD;
        arm_goes_on_with_its_task_after_a_power_cut => restarts::power_cut, BOARD;
        arm_refuses_a_wrong_root_hash => verity::root_hash, BOARD;
    }
}

mod pi {
    use super::{data, network, restarts, verity};

    const BOARD: &str = "rpi";

    xtask::rotated! {
        "faults of a Raspberry Pi" of "rpi";
        pi_meets_its_hub_later => network::meets_its_hub_later, BOARD;
        pi_without_a_card_says_so => network::has_no_card, BOARD;
        pi_without_an_answer_to_dhcp_says_so => network::hears_nothing, BOARD;
        pi_with_an_overwritten_data_area_waits_for_its_owner => data::is_overwritten, BOARD;
        pi_goes_on_with_its_task_after_a_power_cut => restarts::power_cut, BOARD;
        pi_refuses_a_wrong_root_hash => verity::root_hash, BOARD;
        pi_refuses_a_slot_with_a_wrong_bit => verity::data_bit, BOARD;
    }
}
