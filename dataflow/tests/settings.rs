//! Settings under bytes that nobody meant: the checks of the fuzz target `config`, over its seeds and random changes of them.

#[path = "../../fuzz/src/config.rs"]
mod config;

use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/config");
    let files = std::fs::read_dir(folder).expect("the seeds are in the repository");
    let mut paths: Vec<_> = files.map(|file| file.expect("a seed").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| std::fs::read(path).expect("a seed can be read")).collect()
}

#[test]
fn every_seed_is_taken_or_refused_in_words() {
    let seeds = seeds();
    assert!(seeds.len() > 5, "{}", seeds.len());
    seeds.iter().for_each(|seed| config::check(seed));
}

proptest! {
    /// Cut, doubled, overwritten, with a piece of another seed in it.
    #[test]
    fn changed_seeds_are_taken_or_refused_in_words(
        which in any::<[prop::sample::Index; 2]>(),
        cut in any::<[prop::sample::Index; 4]>(),
        typed in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"[]{}=\"'.,#\\\n 0a-*:".to_vec())), 0..6),
    ) {
        let seeds = seeds();
        let (mut bytes, other) = (which[0].get(&seeds).clone(), which[1].get(&seeds));
        let (from, to) = (cut[0].index(bytes.len()), cut[1].index(other.len()));
        let (first, last) = (to.min(cut[2].index(other.len())), to.max(cut[2].index(other.len())));
        bytes.splice(from..from + cut[3].index(bytes.len() - from), other[first..last].iter().copied());
        for (at, byte) in &typed {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
        }
        config::check(&bytes);
    }
}
