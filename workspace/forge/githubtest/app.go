package githubtest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"
)

// accessToken is how an App gets a token: it signs who it is.
func (s *Server) accessToken(a *asked) reply {
	id, _ := strconv.ParseInt(a.PathValue("installation"), 10, 64)
	app := s.apps[id]
	claims := &jwt.RegisteredClaims{}
	for _, known := range s.apps {
		_, err := jwt.ParseWithClaims(bearer(a.Request), claims, func(*jwt.Token) (any, error) { return known.public, nil })
		if err != nil || claims.Issuer != strconv.FormatInt(known.ID, 10) {
			continue
		}
		if known != app {
			return refuse(http.StatusNotFound, "Not Found")
		}
		return s.tokenFor(app, a.body)
	}
	return refuse(http.StatusUnauthorized, "A JSON web token could not be decoded")
}

func (s *Server) tokenFor(app *App, body []byte) reply {
	var want struct {
		Repositories []string
		Permissions  map[string]string
	}
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &want); err != nil {
			return refuse(http.StatusBadRequest, "Problems parsing JSON")
		}
	}
	t := Token{Login: "samnode[bot]", May: app.May, Expires: time.Now().Add(app.TTL)}
	if app.TTL == 0 {
		t.Expires = time.Now().Add(time.Hour)
	}
	for _, full := range app.Repos {
		_, short, _ := strings.Cut(full, "/")
		for _, name := range want.Repositories {
			if strings.EqualFold(name, short) {
				t.Repos = append(t.Repos, full)
			}
		}
	}
	if len(want.Repositories) == 0 {
		t.Repos = app.Repos
	}
	if len(t.Repos) < len(want.Repositories) {
		return refuse(http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
	}
	if want.Permissions != nil {
		for name, level := range want.Permissions {
			if app.May != nil && !(&Token{May: app.May}).may(name, level) && name != "metadata" {
				return refuse(http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
			}
		}
		t.May = want.Permissions
	}
	name := s.grantLocked("ghs_", t)
	may := t.May
	if may == nil {
		may = map[string]string{"metadata": "read"}
	}
	return reply{status: http.StatusCreated, body: map[string]any{
		"token": name, "expires_at": t.Expires.UTC().Format(time.RFC3339), "permissions": may, "repository_selection": "selected",
	}}
}
