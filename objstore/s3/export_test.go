package s3

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// With returns c with all requests for objects and buckets sent by client.
func With(c Config, client aws.HTTPClient) Config {
	c.client = client
	return c
}

// Unfinished returns how many multipart uploads the server has in the bucket.
func (s *Store) Unfinished(ctx context.Context) (int, error) {
	out, err := s.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: s.bucket})
	if err != nil {
		return 0, err
	}
	return len(out.Uploads), nil
}
