package githubtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/samnode/samnode/workspace/git/gittest"
)

// The shapes of GitHub's answers, whole: real clients read more than ours.

type object = map[string]any

const someTime = "2024-01-01T00:00:00Z"

func (s *Server) person(login string) object {
	api, page := s.API+"users/"+login, s.URL+"/"+login
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	return object{
		"login": login, "id": len(login) + 1, "node_id": "U_" + login, "avatar_url": s.URL + "/avatars/" + login, "gravatar_id": "",
		"url": api, "html_url": page, "followers_url": api + "/followers", "following_url": api + "/following{/other_user}",
		"gists_url": api + "/gists{/gist_id}", "starred_url": api + "/starred{/owner}{/repo}", "subscriptions_url": api + "/subscriptions",
		"organizations_url": api + "/orgs", "repos_url": api + "/repos", "events_url": api + "/events{/privacy}",
		"received_events_url": api + "/received_events", "type": kind, "site_admin": false,
	}
}

// smallRepo is what every kind of repository object has.
func (s *Server) smallRepo(r *repo) object {
	full := r.owner + "/" + r.name
	api := s.API + "repos/" + full
	o := object{
		"id": r.id, "node_id": fmt.Sprintf("R_%d", r.id), "name": r.name, "full_name": full, "owner": s.person(r.owner), "private": true,
		"html_url": s.URL + "/" + full, "description": nil, "fork": false, "url": api,
		"archive_url": api + "/{archive_format}{/ref}", "assignees_url": api + "/assignees{/user}", "blobs_url": api + "/git/blobs{/sha}",
		"branches_url": api + "/branches{/branch}", "collaborators_url": api + "/collaborators{/collaborator}", "comments_url": api + "/comments{/number}",
		"commits_url": api + "/commits{/sha}", "compare_url": api + "/compare/{base}...{head}", "contents_url": api + "/contents/{+path}",
		"git_commits_url": api + "/git/commits{/sha}", "git_refs_url": api + "/git/refs{/sha}", "git_tags_url": api + "/git/tags{/sha}",
		"issue_comment_url": api + "/issues/comments{/number}", "issue_events_url": api + "/issues/events{/number}", "issues_url": api + "/issues{/number}",
		"keys_url": api + "/keys{/key_id}", "labels_url": api + "/labels{/name}", "milestones_url": api + "/milestones{/number}",
		"notifications_url": api + "/notifications{?since,all,participating}", "pulls_url": api + "/pulls{/number}",
		"releases_url": api + "/releases{/id}", "statuses_url": api + "/statuses/{sha}", "trees_url": api + "/git/trees{/sha}",
	}
	for _, name := range []string{
		"contributors", "deployments", "downloads", "events", "forks", "hooks", "languages", "merges", "stargazers", "subscribers", "subscription", "tags", "teams",
	} {
		o[name+"_url"] = api + "/" + name
	}
	return o
}

func (s *Server) repoJSON(r *repo) object {
	o := s.smallRepo(r)
	full := r.owner + "/" + r.name
	for k, v := range (object{
		"clone_url": s.URL + "/" + full + ".git", "git_url": "git://localhost/" + full + ".git", "ssh_url": "git@localhost:" + full + ".git", "svn_url": s.URL + "/" + full,
		"mirror_url": nil, "homepage": nil, "language": nil, "license": nil, "default_branch": r.branch,
		"forks": 0, "forks_count": 0, "stargazers_count": 0, "watchers": 0, "watchers_count": 0, "open_issues": 0, "open_issues_count": 0, "size": 1,
		"has_issues": true, "has_projects": true, "has_wiki": true, "has_pages": false, "has_downloads": true, "has_discussions": false,
		"archived": r.archived, "disabled": false, "visibility": "private", "pushed_at": someTime, "created_at": someTime, "updated_at": someTime,
	}) {
		o[k] = v
	}
	return o
}

func (s *Server) fullRepo(r *repo, t *Token) object {
	o := s.repoJSON(r)
	delete(o, "has_downloads")
	o["network_count"], o["subscribers_count"] = 0, 0
	push := t.may("contents", "write")
	o["permissions"] = object{"admin": false, "maintain": false, "push": push, "triage": push, "pull": true}
	return o
}

// end is a pull request's head or base.
func (s *Server) end(r *repo, branch, sha string) object {
	return object{"label": r.owner + ":" + branch, "ref": branch, "sha": sha, "user": s.person(r.owner), "repo": s.repoJSON(r)}
}

func (s *Server) pullJSON(r *repo, p *pull, whole bool) object {
	full := r.owner + "/" + r.name
	api := fmt.Sprintf("%srepos/%s/pulls/%d", s.API, full, p.number)
	issue := fmt.Sprintf("%srepos/%s/issues/%d", s.API, full, p.number)
	page := fmt.Sprintf("%s/%s/pull/%d", s.URL, full, p.number)
	head, base := s.headLocked(r, p), gittest.Tip(s.t, r.dir, "refs/heads/"+p.base)
	statuses := s.API + "repos/" + full + "/statuses/" + head
	state := "open"
	if p.closed {
		state = "closed"
	}
	var closed, commit any
	if p.closed {
		closed = p.updated.Format(time.RFC3339)
	}
	if p.mergeCommit != "" {
		commit = p.mergeCommit
	}
	href := func(u string) object { return object{"href": u} }
	o := object{
		"id": p.id, "node_id": fmt.Sprintf("PR_%d", p.id), "number": p.number, "state": state, "locked": false, "title": p.title, "body": p.body,
		"user": s.person(p.author), "draft": p.draft, "url": api, "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch",
		"issue_url": issue, "commits_url": api + "/commits", "review_comments_url": api + "/comments", "review_comment_url": s.API + "repos/" + full + "/pulls/comments{/number}",
		"comments_url": issue + "/comments", "statuses_url": statuses, "created_at": p.created.Format(time.RFC3339), "updated_at": p.updated.Format(time.RFC3339),
		"closed_at": closed, "merged_at": orNull(p.merged), "merge_commit_sha": commit,
		"assignee": nil, "assignees": []any{}, "requested_reviewers": []any{}, "requested_teams": []any{}, "labels": []any{}, "milestone": nil,
		"head": s.end(r, p.head, head), "base": s.end(r, p.base, base), "author_association": "CONTRIBUTOR", "auto_merge": nil,
		"_links": object{
			"self": href(api), "html": href(page), "issue": href(issue), "comments": href(issue + "/comments"), "review_comments": href(api + "/comments"),
			"review_comment": href(s.API + "repos/" + full + "/pulls/comments{/number}"), "commits": href(api + "/commits"), "statuses": href(statuses),
		},
	}
	if !whole {
		return o
	}
	merged := !p.merged.IsZero()
	o["merged"], o["merged_by"], o["mergeable"], o["mergeable_state"], o["rebaseable"] = merged, nil, nil, "unknown", nil
	if merged {
		o["merged_by"] = s.person("bo")
	}
	if !p.closed {
		_, err := gittest.Try(s.t, r.dir, nil, "merge-tree", "--write-tree", base, head)
		o["mergeable"], o["mergeable_state"] = err == nil, "clean"
		if err != nil {
			o["mergeable_state"] = "dirty"
		}
	}
	for _, n := range []string{"comments", "review_comments", "commits", "additions", "deletions", "changed_files"} {
		o[n] = 1
	}
	o["maintainer_can_modify"] = true
	return o
}

func (s *Server) reviewJSON(r *repo, p *pull, v review) object {
	api := fmt.Sprintf("%srepos/%s/%s/pulls/%d", s.API, r.owner, r.name, p.number)
	page := fmt.Sprintf("%s/%s/%s/pull/%d#pullrequestreview-%d", s.URL, r.owner, r.name, p.number, v.id)
	return object{
		"id": v.id, "node_id": fmt.Sprintf("PRR_%d", v.id), "user": s.person(v.login), "body": v.body, "state": v.state, "commit_id": v.sha,
		"html_url": page, "pull_request_url": api, "submitted_at": v.at.Format(time.RFC3339), "author_association": "MEMBER",
		"_links": object{"html": object{"href": page}, "pull_request": object{"href": api}},
	}
}

func (s *Server) checkJSON(r *repo, sha string, i int, c Check) object {
	api := fmt.Sprintf("%srepos/%s/%s/check-runs/%d", s.API, r.owner, r.name, i+1)
	var conclusion, done any
	if c.Status == "completed" {
		conclusion, done = c.Conclusion, someTime
	}
	return object{
		"id": i + 1, "node_id": fmt.Sprintf("CR_%d", i+1), "head_sha": sha, "external_id": "", "name": c.Name, "url": api, "html_url": api, "details_url": api,
		"status": c.Status, "conclusion": conclusion, "started_at": someTime, "completed_at": done,
		"output":      object{"title": nil, "summary": nil, "text": nil, "annotations_count": 0, "annotations_url": api + "/annotations"},
		"check_suite": object{"id": 1}, "app": nil, "pull_requests": []any{},
	}
}

func (s *Server) statusJSON(r *repo, sha string) object {
	api := s.API + "repos/" + r.owner + "/" + r.name + "/commits/" + sha
	list, state := []any{}, "pending"
	for i, c := range r.statuses[sha] {
		if i == 0 || c.Conclusion != "success" {
			state = c.Conclusion
		}
		list = append(list, object{
			"id": i + 1, "node_id": fmt.Sprintf("SC_%d", i+1), "url": s.API + "repos/" + r.owner + "/" + r.name + "/statuses/" + sha, "avatar_url": nil,
			"state": c.Conclusion, "description": nil, "target_url": nil, "context": c.Name, "created_at": someTime, "updated_at": someTime,
		})
	}
	return object{"state": state, "statuses": list, "sha": sha, "total_count": len(list), "repository": s.smallRepo(r), "commit_url": api, "url": api + "/status"}
}
