//! The hash tree is the one that cryptsetup's own tool makes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use sosna_apt::Apt;
use sosna_image::block::verity;

#[test]
fn veritysetup_agrees() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools");
    let root = tools.join("programs/cryptsetup-bin");
    let program = match Apt::new(&tools).program("cryptsetup-bin", "sbin/veritysetup", &root) {
        Ok(program) => program,
        Err(error) => {
            eprintln!("SKIPPED veritysetup_agrees: {error}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    // One level, two, and three.
    for blocks in [2_u32, 128, 129, 16_500] {
        let data: Vec<u8> =
            (0..blocks * 1024).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let (tree, root) = verity::tree(&mut &data[..], [9; 32]).unwrap();
        let path = folder.path().join("slot");
        fs::write(&path, [&data[..], &tree[..]].concat()).unwrap();
        let text = root.to_string();
        let [hash, salt, count] = text.split(':').collect::<Vec<_>>().try_into().unwrap();
        let verify = |hash: &str| {
            let mut command = program.command();
            command.args([
                "verify",
                "--no-superblock",
                "--format=1",
                "--hash=sha256",
                "--data-block-size=4096",
            ]);
            command.args(["--hash-block-size=4096", "--salt", salt, "--data-blocks", count]);
            command.args(["--hash-offset", &data.len().to_string()]).arg(&path).arg(&path).arg(hash);
            command.output().unwrap()
        };
        let output = verify(hash);
        assert!(output.status.success(), "{blocks}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(
            !verify(&hash.replace(&hash[..2], if hash.starts_with("00") { "11" } else { "00" }))
                .status
                .success()
        );
    }
}
