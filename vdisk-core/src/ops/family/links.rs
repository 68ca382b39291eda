//! From what children record to images: every link, and what is wrong with it.
//!
//! Follows the rules of [`open`](crate::open()), but through a table of the images that are known,
//! so that a thousand children of one base open it once.

use super::{Family, Link, Member, Needs, Verdict, health};
use crate::{
    Error, ErrorKind, Identity, Job, OpenOptions, ParentRef, Reference, Result,
    open::{format_of, open_parent, unfinished},
    resolve,
    storage::{FileId, ImageFile},
};
use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path, PathBuf},
};

/// Adds the links of all images, and the parents elsewhere that they lead to.
pub(super) fn find(family: &mut Family, options: &OpenOptions<'_>, job: &Job<'_>) -> Result<()> {
    let mut finder = Finder {
        options: *options,
        family,
        by_file: HashMap::new(),
        by_place: None,
        opened: HashMap::new(),
    };
    for (index, member) in finder.family.images.iter().enumerate() {
        finder.by_file.extend(member.id.map(|id| (id, index)));
    }
    let mut child = 0;
    // Grows while parents elsewhere are found, which may have parents, too.
    while child < finder.family.images.len() {
        job.advance(0)?;
        if let Some(verdict) = finder.verdict(child) {
            let delta = finder.family.images.get(child).is_some_and(|m| m.delta);
            if !delta || matches!(verdict, Verdict::Intact { .. }) {
                finder.family.links.push(Link {
                    child,
                    verdict,
                    parent_written: None,
                });
            }
        }
        child += 1;
    }
    let identities = Identities::of(family);
    identities.name_parents(family);
    mark_loops(family);
    identities.search(family);
    family.alike = identities.alike(family);
    health::check(family, options, job)
}

/// What opening a file as a parent came to: an image, or why not.
type Opened = std::result::Result<usize, Verdict>;

struct Finder<'a> {
    options: OpenOptions<'a>,
    family: &'a mut Family,
    by_file: HashMap<FileId, usize>,
    /// The images by their canonical paths; made when it is first needed.
    by_place: Option<HashMap<PathBuf, usize>>,
    /// Files opened as parents, by the format that was recorded.
    opened: HashMap<(FileId, Option<&'static str>), Opened>,
}

impl Finder<'_> {
    /// The verdict on the parent of `child`; `None` if it has none.
    fn verdict(&mut self, child: usize) -> Option<Verdict> {
        let member = self.family.images.get(child)?;
        let wanted = member.parent.clone()?;
        let file = match ImageFile::open(&member.path, self.options.access) {
            Ok(file) => file,
            Err(error) => return Some(unreadable(&error)),
        };
        let resolver = self.options.resolver;
        let (wrong, sought) = match resolver.find(&file, &Reference::Parent(&wanted)) {
            Ok(candidates) => {
                let other = candidates.first().map(|c| c.path().to_owned());
                match self.among(child, &file, &wanted, candidates) {
                    Some(right @ (Verdict::Intact { .. } | Verdict::Moved { .. })) => {
                        return Some(right);
                    }
                    wrong => (wrong, self.namesake(&file, &wanted, other)),
                }
            }
            Err(error) if error.kind() == ErrorKind::Policy => (None, error.to_string()),
            Err(error) if error.kind() == ErrorKind::Reference => {
                let sought = error.to_string();
                return Some(Verdict::Missing { sought });
            }
            Err(error) => return Some(unreadable(&error)),
        };
        // Where the names may not be followed, they may still point to an image that is known.
        let named = self.named_elsewhere(child, file.path(), &wanted);
        let mut named = named
            .into_iter()
            .map(|found| self.judge(found, &wanted, Some(Needs::AllowPath)));
        let first = named.next();
        let intact = |v: &Verdict| matches!(v, Verdict::Intact { .. });
        let right = first.clone().into_iter().chain(named).find(intact);
        Some(
            right
                .or(wrong)
                .or(first)
                .unwrap_or(Verdict::Missing { sought }),
        )
    }

    /// The verdict on the right image, `parent`, to which no recorded name was followed: it lies
    /// beside the child, or somebody named it.
    fn as_recorded(
        &mut self,
        child: usize,
        file: &ImageFile,
        wanted: &ParentRef,
        parent: usize,
    ) -> Verdict {
        let intact = |needs| Verdict::Intact { parent, needs };
        let place = self.family.images.get(parent).map(|m| m.path.clone());
        let Some(place) = place.filter(|_| wanted.identity.is_some() && !wanted.hints.is_empty())
        else {
            return intact(None);
        };
        let beside = || {
            let folders = [place.parent(), file.path().parent()];
            let [Some(one), Some(other)] = folders.map(|f| f?.join(".").canonicalize().ok()) else {
                return false;
            };
            let names = resolve::bare_names(wanted);
            one == other && place.file_name().is_some_and(|n| names.contains(&n.into()))
        };
        if beside() {
            return intact(None);
        }
        let elsewhere = self.named_elsewhere(child, file.path(), wanted);
        if elsewhere.contains(&parent) {
            return intact(Some(Needs::AllowPath));
        }
        Verdict::Moved {
            to: vec![parent],
            sought: self.namesake(file, wanted, None),
        }
    }

    /// What was looked for if no recorded name leads to an image: `other` is what was found instead.
    fn namesake(&self, from: &ImageFile, wanted: &ParentRef, other: Option<PathBuf>) -> String {
        let why = match self.options.resolver.refusal(from, wanted) {
            Some(refusal) => refusal.to_string(),
            None => {
                let detail = "the recorded names lead to no other image";
                let error = Error::new(ErrorKind::Reference, "parent", detail);
                error.path(from.path()).to_string()
            }
        };
        match other.filter(|other| other != from.path()) {
            Some(other) => format!("{why}, and '{}' is not it", other.display()),
            None => why,
        }
    }

    /// The first of `candidates` that is the parent, or what is wrong with the first that a recorded
    /// name leads to. Others, which only have its file name or were given for any image, are the
    /// parent or nothing.
    fn among(
        &mut self,
        child: usize,
        file: &ImageFile,
        wanted: &ParentRef,
        candidates: Vec<ImageFile>,
    ) -> Option<Verdict> {
        let mut first = None;
        for candidate in candidates {
            let named = resolve::leads_to(wanted, candidate.path());
            let own = self.family.images.get(child).and_then(|m| m.id);
            let itself = own.is_some() && own == candidate.tag.id;
            let verdict = match self.open(candidate, wanted) {
                Ok(found) => match self.judge(found, wanted, None) {
                    changed @ Verdict::Changed { .. } => self.cut_short(found).unwrap_or(changed),
                    verdict => verdict,
                },
                Err(verdict) => verdict,
            };
            match verdict {
                Verdict::Intact { .. } if named => return Some(verdict),
                Verdict::Intact { parent, .. } => {
                    return Some(self.as_recorded(child, file, wanted, parent));
                }
                // A name that leads back.
                _ if itself => {}
                other if named => {
                    first.get_or_insert(other);
                }
                _ => {}
            }
        }
        first
    }

    fn judge(&self, found: usize, wanted: &ParentRef, needs: Option<Needs>) -> Verdict {
        let image = self.family.images.get(found);
        let fits = image.is_some_and(|m| wanted.is_any_of(&m.identities()));
        match fits || wanted.identity.is_none() {
            true => Verdict::Intact {
                parent: found,
                needs,
            },
            false => Verdict::Changed {
                found,
                copies: Vec::new(),
                contents: super::Contents::Unknown,
            },
        }
    }

    /// The verdict on a parent that may be another only because a change was cut short.
    fn cut_short(&self, found: usize) -> Option<Verdict> {
        let image = self.family.images.get(found)?;
        let wanted = image.parent.as_ref()?;
        let file = ImageFile::open(&image.path, self.options.access).ok()?;
        let error = unfinished(&file, Some(wanted), &self.options)?;
        Some(unreadable(&error))
    }

    /// The image in `file`, opened as the parent that is recorded.
    fn open(&mut self, file: ImageFile, wanted: &ParentRef) -> Opened {
        let recorded = match format_of(wanted) {
            Ok(format) => format.map(|f| f.name()),
            Err(error) => return Err(unreadable(&error)),
        };
        let id = file.tag.id;
        let known = id.and_then(|id| self.by_file.get(&id).copied());
        let same_format = |m: &Member| Some(m.format) == recorded;
        if let Some(known) = known
            && self.family.images.get(known).is_some_and(same_format)
        {
            return Ok(known);
        }
        if let Some(id) = id
            && let Some(opened) = self.opened.get(&(id, recorded))
        {
            return opened.clone();
        }
        let path = file.path().to_owned();
        let opened = match open_parent(file, wanted, &self.options) {
            Ok(layer) => Ok(self.keep(Member::of(&layer, known.is_none()), known)),
            Err(error) => Err(wrong(error.path(path))),
        };
        if let Some(id) = id {
            self.opened.insert((id, recorded), opened.clone());
        }
        opened
    }

    /// The index of the image, which is added unless it is there already.
    fn keep(&mut self, image: Member, known: Option<usize>) -> usize {
        if let Some(known) = known
            && self
                .family
                .images
                .get(known)
                .is_some_and(|m| m.format == image.format)
        {
            return known;
        }
        let index = self.family.images.len();
        if let (None, Some(id)) = (known, image.id) {
            self.by_file.insert(id, index);
        }
        self.family.images.push(image);
        index
    }

    /// The images that lie where the recorded names of `child` at `path` point to, as far as names
    /// alone tell. Nothing is opened or looked at: that is not for the child to decide.
    fn named_elsewhere(&mut self, child: usize, path: &Path, wanted: &ParentRef) -> Vec<usize> {
        let Ok(recorded) = format_of(wanted) else {
            return Vec::new();
        };
        let images = &self.family.images;
        let places = self.by_place.get_or_insert_with(|| {
            let place = |(index, m): (usize, &Member)| Some((m.path.canonicalize().ok()?, index));
            images.iter().enumerate().filter_map(place).collect()
        });
        let real = path.canonicalize().unwrap_or_default();
        let folder = real.parent().unwrap_or(Path::new(""));
        let fits = |m: &Member| recorded.is_none_or(|f| f.name() == m.format);
        resolve::literal_names(wanted)
            .filter_map(|name| places.get(&straightened(&folder.join(name))).copied())
            .filter(|found| *found != child && images.get(*found).is_some_and(fits))
            .collect()
    }
}

/// `path` without `.` and `..`, by the text alone.
fn straightened(path: &Path) -> PathBuf {
    let mut straight = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                straight.pop();
            }
            other => straight.push(other),
        }
    }
    straight
}

fn unreadable(error: &Error) -> Verdict {
    Verdict::Unreadable {
        detail: error.to_string(),
        copies: Vec::new(),
        unfinished: crate::transaction::is_unfinished(error),
    }
}

fn wrong(error: Error) -> Verdict {
    match error.kind() {
        ErrorKind::WrongFormat => Verdict::WrongFormat {
            detail: error.to_string(),
            copies: Vec::new(),
        },
        _ => unreadable(&error),
    }
}

/// The parents of all images, as far as their links are intact.
fn parents(family: &Family) -> Vec<Option<usize>> {
    let mut parents = vec![None; family.images.len()];
    for link in &family.links {
        if let (Verdict::Intact { parent, .. }, Some(place)) =
            (&link.verdict, parents.get_mut(link.child))
        {
            *place = Some(*parent);
        }
    }
    parents
}

/// Tells links that lead back to where they came from.
fn mark_loops(family: &mut Family) {
    let parents = parents(family);
    let next = |at: usize| parents.get(at).copied().flatten();
    // For each image, the walk in which it was first met.
    let mut walk_of = vec![usize::MAX; parents.len()];
    let mut looped = vec![false; parents.len()];
    for start in 0..parents.len() {
        let mut at = Some(start);
        while let Some(here) = at {
            match walk_of.get_mut(here) {
                Some(walk) if *walk == usize::MAX => *walk = start,
                Some(walk) if *walk == start => {
                    // The first image met again is on the loop, and so are all from there on.
                    let mut on = here;
                    while let Some(mark) = looped.get_mut(on).filter(|m| !**m) {
                        *mark = true;
                        on = next(on).unwrap_or(on);
                    }
                    break;
                }
                _ => break,
            }
            at = next(here);
        }
    }
    for link in &mut family.links {
        if let Verdict::Intact { parent, .. } = link.verdict
            && looped.get(link.child) == Some(&true)
        {
            link.verdict = Verdict::Loop { parent };
        }
    }
}

/// The images by who they are.
struct Identities(HashMap<Identity, Vec<usize>>);

impl Identities {
    fn of(family: &Family) -> Self {
        let mut images: HashMap<Identity, Vec<usize>> = HashMap::new();
        for (index, member) in family.images.iter().enumerate() {
            for identity in member.identities().into_iter().flatten() {
                images.entry(identity).or_default().push(index);
            }
        }
        Self(images)
    }

    /// The images that are the parent of `child` by identity alone.
    fn parents_of(&self, family: &Family, child: usize) -> Vec<usize> {
        let Some(wanted) = family.images.get(child).and_then(|m| m.parent.as_ref()) else {
            return Vec::new();
        };
        let format = format_of(wanted).ok().flatten().map(|f| f.name());
        let fits = |index: &usize| {
            // VMware gives a new child the identity of its parent: an image on the same parent is
            // a sibling.
            family.images.get(*index).is_some_and(|image| {
                let parent = image.parent.as_ref();
                parent.is_none_or(|p| p.identity != wanted.identity)
                    && format.is_none_or(|f| f == image.format)
                    && *index != child
            })
        };
        let wanted = [wanted.identity, wanted.alternative];
        let wanted = wanted.into_iter().flatten().filter(Identity::tells_apart);
        let mut found: Vec<usize> = wanted
            .flat_map(|w| self.0.get(&w).into_iter().flatten().copied())
            .filter(fits)
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Finds the parents of which children record no name, but who they are.
    fn name_parents(&self, family: &mut Family) {
        let mut links = std::mem::take(&mut family.links);
        for Link { child, verdict, .. } in &mut links {
            let parent = family.images.get(*child).and_then(|m| m.parent.as_ref());
            let nameless = parent.is_some_and(|p| p.hints.is_empty());
            if matches!(verdict, Verdict::Missing { .. })
                && nameless
                && let [parent] = self.parents_of(family, *child).as_slice()
            {
                *verdict = Verdict::Intact {
                    parent: *parent,
                    needs: Some(Needs::Parent),
                };
            }
        }
        family.links = links;
    }

    /// Finds images with the recorded identity for links that names alone do not make.
    fn search(&self, family: &mut Family) {
        let parents = parents(family);
        let mut links = std::mem::take(&mut family.links);
        for Link { child, verdict, .. } in &mut links {
            let found = || {
                let mut found = self.parents_of(family, *child);
                // That would make a loop.
                found.retain(|image| !descends(&parents, *image, *child));
                found
            };
            match verdict {
                Verdict::Missing { sought } => {
                    let to = found();
                    if !to.is_empty() {
                        let sought = std::mem::take(sought);
                        *verdict = Verdict::Moved { to, sought };
                    }
                }
                Verdict::Changed { copies, .. }
                | Verdict::WrongFormat { copies, .. }
                | Verdict::Unreadable {
                    copies,
                    unfinished: false,
                    ..
                } => *copies = found(),
                _ => {}
            }
        }
        family.links = links;
    }
}

impl Identities {
    /// Images that children cannot tell apart by identity, each group once.
    fn alike(&self, family: &Family) -> Vec<Vec<usize>> {
        let mut seen = HashSet::new();
        let mut groups = Vec::new();
        for link in &family.links {
            let wanted = family
                .images
                .get(link.child)
                .and_then(|m| m.parent.as_ref());
            // For broken links, all are named there.
            if matches!(link.verdict, Verdict::Intact { .. })
                && let Some(wanted) = wanted.and_then(|p| p.identity)
                && seen.insert(wanted)
            {
                let group = self.parents_of(family, link.child);
                groups.extend((group.len() > 1).then_some(group));
            }
        }
        groups
    }
}

/// True if `image` has `ancestor` among its parents. They make no loops: those are marked before.
fn descends(parents: &[Option<usize>], image: usize, ancestor: usize) -> bool {
    let next = |at: &usize| parents.get(*at).copied().flatten();
    std::iter::successors(Some(image), next)
        .take(crate::limits::CHAIN_DEPTH)
        .any(|at| at == ancestor)
}
