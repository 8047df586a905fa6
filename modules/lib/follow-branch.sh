#!/bin/sh
# Keeps $STATE_DIRECTORY/current at the newest commit of $BRANCH of $REMOTE. Each commit has a folder of its own, which
# never changes, and the link goes from one to the next at once. A branch whose history was rewritten is not followed.
set -eu
cd "$STATE_DIRECTORY"

KEPT=5 # folders: something may be evaluated from an older one still

[ -d repository ] || git init -q --bare repository
git -C repository -c fetch.fsckObjects=true fetch -q --no-tags --no-recurse-submodules -- "$REMOTE" \
    "refs/heads/$BRANCH:refs/heads/followed" || {
    echo "$BRANCH of $REMOTE cannot be fetched, or its history was rewritten: what was fetched last is served" >&2
    exit 1
}
# Agents plan what they have pushed to other branches. Nothing of those is checked out.
git -C repository -c fetch.fsckObjects=true fetch -q --prune --no-tags --no-recurse-submodules -- "$REMOTE" \
    '+refs/heads/*:refs/remotes/all/*' || echo "other branches of $REMOTE cannot be fetched, and cannot be planned" >&2
commit=$(git -C repository rev-parse --verify -q 'refs/heads/followed^{commit}')

# One that was cut off half way is made anew.
if [ ! -e "commits/$commit.whole" ]; then
    rm -rf "commits/$commit"
    git -C repository worktree prune
    git -C repository worktree add -q --detach "$PWD/commits/$commit" "$commit"
    : >"commits/$commit.whole"
    echo "$commit" >>order
fi
ln -sfn "commits/$commit" next
mv -T next current

# The newest are last in the list, and the one that is followed now is never taken.
head -n "-$KEPT" order | while read -r old; do
    [ "$old" != "$commit" ] || continue
    rm -rf "commits/$old" "commits/$old.whole"
done
git -C repository worktree prune
tail -n "$KEPT" order >order.new
mv order.new order
