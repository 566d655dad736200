package store

import (
	"context"
	"fmt"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// spaceWarning is the part of its quota, in hundredths, from which on a store is
// told of as filling.
const spaceWarning = 80

// Space says what a person should do about the member of the store that answers:
// why it refuses every write though it can be read, and what will make it so.
// Both are "" where all is well.
func (s *Store) Space(ctx context.Context) (refuses, fills string, err error) {
	ctx, cancel := context.WithTimeout(ctx, memberPatience)
	defer cancel()
	// clientv3's own Status makes a connection for each question.
	r, err := pb.NewMaintenanceClient(s.client.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
	if err != nil {
		return "", "", unavailable("asking for its space", err)
	}
	refuses, fills = judgeSpace(r)
	return refuses, fills, nil
}

func judgeSpace(r *pb.StatusResponse) (refuses, fills string) {
	for _, e := range r.GetErrors() {
		switch {
		case strings.Contains(e, pb.AlarmType_NOSPACE.String()):
			refuses = "etcd is out of space and refuses every change: compact and defragment it or raise its quota, then disarm its alarm (`etcdctl alarm disarm`)"
		case strings.Contains(e, pb.AlarmType_CORRUPT.String()):
			return "etcd has found its own data corrupt and refuses every change: restore it, then see `divert store recover`", ""
		}
	}
	if quota := r.GetDbSizeQuota(); quota > 0 && refuses == "" && r.GetDbSizeInUse()*100 >= quota*spaceWarning {
		fills = fmt.Sprintf("etcd's database is at %d %% of its quota: at 100 it refuses every change", r.GetDbSizeInUse()*100/quota)
	}
	return refuses, fills
}
