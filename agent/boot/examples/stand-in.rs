//! Stands in for the agent.
fn main() {
    sosna_boot::console::say(&format!(
        "stand-in as {} stage {:?}",
        std::process::id(),
        std::env::var("SOSNA_STAGE")
    ));
    sosna_boot::power::now(sosna_boot::power::End::Off)
}
