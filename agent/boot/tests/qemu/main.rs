//! Both stages on a real kernel in an emulated machine, without boot loader and firmware: those belong to the images'
//! own tests. `SOSNA_TEST_CONSOLE=1` shows what the machines say.
#![allow(clippy::unwrap_used, reason = "tests")]

mod disk;
mod drivers;
mod kit;
mod life;
mod machine;
mod wifi;

// Whole devices (tests/tests/guest) run the same program.
xtask::rotated! {
    "PID 1";
    a_slot_with_one_wrong_bit_is_refused_and_named => life::a_slot_with_one_wrong_bit_is_refused_and_named;
    power_may_fail_while_the_data_area_is_made => life::power_may_fail_while_the_data_area_is_made;
    a_system_that_hangs_is_restarted_by_the_watchdog => life::a_system_that_hangs_is_restarted_by_the_watchdog;
    a_device_keeps_what_it_is_through_restarts_and_damage => life::a_device_keeps_what_it_is_through_restarts_and_damage;
    drivers_are_loaded_for_the_hardware_that_is_there => drivers::drivers_are_loaded_for_the_hardware_that_is_there;
    a_device_joins_a_wireless_network_and_comes_back_to_it => wifi::a_device_joins_a_wireless_network_and_comes_back_to_it;
    a_refused_password_is_told_and_a_hidden_network_is_found => wifi::a_refused_password_is_told_and_a_hidden_network_is_found;
}
